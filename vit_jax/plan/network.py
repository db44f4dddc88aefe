"""How long a collective takes: which chips take part, over how many links.

A plain model, good to a factor of two: bytes over links, no latency, no contention.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vit_jax.parallel.tpu_slices import Slice

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
               'collective-permute', 'ragged-all-to-all', 'collective-broadcast')


@dataclasses.dataclass(frozen=True)
class Network:
  """The wires of a slice.

  Attributes:
    slice: the chips.
    coordinates: (number of devices, dims) position of each device in its slice, in
      the order of the mesh, which is how a compiled program numbers devices.
  """
  slice: Slice
  coordinates: np.ndarray

  @staticmethod
  def of(slice_: Slice, mesh_devices: Iterable[Any]) -> 'Network':
    """Of the devices of a mesh, in the mesh's order."""
    dims = len(slice_.shape)
    return Network(slice_, np.array(
        [tuple(d.coords)[:dims] for d in mesh_devices]).reshape(-1, dims))

  def seconds(self, kind: str, payload: float, group: Sequence[int] | None) -> float:
    """Of one collective over a group of device numbers.

    Args:
      kind: one of COLLECTIVES.
      payload: bytes of the whole array on one device: what is reduced, or gathered.
      group: device numbers; None: all devices.
    """
    group = range(len(self.coordinates)) if group is None else group
    n = len(group)
    if n < 2:
      return 0.0
    share = {'all-reduce': 2 * (n - 1) / n, 'collective-permute': 1.0}.get(
        kind, (n - 1) / n)
    return share * payload / (self.links(group) * self._link_bytes_per_second)

  def links(self, group: Sequence[int]) -> int:
    """Links in one direction that a ring algorithm keeps busy at every chip.

    One per dim of the network that the group extends over, two where that dim is a
    ring of chips that all take part.
    """
    positions = self.coordinates[np.asarray(group)]
    links = 0
    for dim, size in enumerate(self.slice.shape):
      taken = len(np.unique(positions[:, dim]))
      if taken > 1:
        links += 2 if taken == size and self.slice.wraps(dim) else 1
    return max(links, 1)

  def seconds_between_slices(self, payload: float) -> float:
    """Of `payload` bytes that a device sends to other slices."""
    rate = self.slice.generation.dcn_gbps * 1e9
    return payload * self.slice.generation.devices_per_chip / rate

  @property
  def _link_bytes_per_second(self) -> float:
    generation = self.slice.generation
    return generation.link_gbps * 1e9 / generation.devices_per_chip


def first_group(text: str) -> list[int] | None:
  """The first group of an instruction's `replica_groups`, all being alike.

  Args:
    text: '{{0,1},{2,3}}', '[2,2]<=[4]', '[2,2]<=[2,2]T(1,0)' or
      "mesh['a'=2,'b'=2] {'b'}"; a sub-axis is "{'a':(1)2}".

  Returns:
    Device numbers, or None for all devices (or a form that is not known).
  """
  listed = re.match(r'\{\{([\d,]+)\}', text)
  if listed:
    return [int(n) for n in listed[1].split(',')]
  iota = re.match(r'\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if iota:
    shape, order = _numbers(iota[1]), _numbers(iota[3] or '')
    numbers = np.arange(math.prod(shape)).reshape(_numbers(iota[2]))
    numbers = numbers.transpose(order) if order else numbers
    return numbers.reshape(shape[0], -1)[0].tolist()
  mesh = re.match(r'mesh\[([^\]]*)\]\s*\{([^}]*)\}', text)
  if mesh:
    return _mesh_group(mesh[1], mesh[2])
  return None


def _mesh_group(axes: str, taken: str) -> list[int]:
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
  numbers = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
  chosen = {}
  for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", taken):
    # A sub-axis ':(2)4' of an axis of 16: 4 steps of 16 / (2 * 4) = 2 devices.
    before, size = int(before or 1), int(size or sizes[name])
    stride = sizes[name] // (before * size)
    chosen[name] = slice(0, stride * size, stride)
  index = tuple(chosen.get(name, slice(0, 1)) for name in sizes)
  return numbers[index].ravel().tolist()


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(n) for n in text.split(',') if n)
