"""The device mesh: axis `data` replicates parameters, axis `fsdp` shards them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax.config.sections import MeshSection
from vit_jax.runtime.errors import UserError

AXES = ('data', 'fsdp')


class Device(Protocol):
  """What is asked of a device: one of JAX, or what stands for it in a plan."""

  @property
  def platform(self) -> str: ...

  @property
  def device_kind(self) -> str: ...

  def memory_stats(self) -> dict[str, int] | None:
    """Such as 'bytes_limit'; None or an error where they are not known."""
    ...


def shape(section: MeshSection, num_devices: int) -> tuple[int, int]:
  """(data, fsdp) with -1 resolved; their product is the number of devices.

  An `fsdp` of 0 counts as 1, or as -1 if `data` is given; see `auto_mesh.fit`.
  """
  data, fsdp = section.data, section.fsdp
  given = f'config.mesh.data={data}, config.mesh.fsdp={fsdp}'
  if fsdp == 0:
    fsdp = 1 if data == -1 else -1
  if data == -1 and fsdp > 0 and num_devices % fsdp == 0:
    data = num_devices // fsdp
  elif fsdp == -1 and data > 0 and num_devices % data == 0:
    fsdp = num_devices // data
  if data < 1 or fsdp < 1 or data * fsdp != num_devices:
    raise UserError(
        f'{given} does not fit {num_devices} devices. The product of the two '
        'must be the number of devices; -1 for one of them takes the rest, and fsdp=0 '
        'chooses.')
  return data, fsdp


def num_slices(devices: Sequence[Device]) -> int:
  """How many TPU slices the devices belong to; 1 for anything else."""
  if devices[0].platform != 'tpu':
    return 1
  return len({getattr(d, 'slice_index', 0) for d in devices})


def create(section: MeshSection, devices: Iterable[Any] | None = None) -> Mesh:
  """The mesh over JAX's `devices` (None: all), those of a plan's topology included.

  Within a slice, axes follow the torus. Over several slices, `data` is divided over
  them, as the network between slices is slow, and `fsdp` stays inside.

  Raises:
    UserError: if the numbers don't fit the devices or the slices.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = shape(section, len(devices))
  if devices[0].platform == 'cpu':
    # There is no topology to follow; keep a process's devices together.
    return Mesh(np.asarray(devices).reshape(sizes), AXES)
  slices = num_slices(devices)
  if slices == 1:
    return Mesh(_on_torus(lambda **split: mesh_utils.create_device_mesh(
        sizes, devices, **split)), AXES)
  if sizes[0] % slices:
    raise UserError(
        f'config.mesh.data={sizes[0]} replicas do not divide over {slices} slices, and '
        'parameters are not divided between slices: the network there is too slow. '
        f'Choose config.mesh.fsdp among the divisors of {len(devices) // slices}, the '
        'devices of a slice.')
  return Mesh(_on_torus(lambda **split: mesh_utils.create_hybrid_device_mesh(
      (sizes[0] // slices, sizes[1]), (slices, 1), devices, **split)), AXES)


def _on_torus(make: Callable[..., np.ndarray]) -> np.ndarray:
  """A grid whose axes are whole torus axes if they can be, else parts of them."""
  try:
    return make()
  except NotImplementedError:
    return make(allow_split_physical_axes=True)


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
  """Examples (dim 0) divided over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def check_batch(mesh: Mesh, batch_size: int, accum_steps: int = 1,
                name: str = 'batch_size') -> None:
  """Raises UserError unless the batch divides over devices and micro-batches."""
  parts = mesh.size * accum_steps
  if batch_size % parts:
    below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
    accum = f' x {accum_steps} accumulation steps' if accum_steps > 1 else ''
    near = f'{below} or {above}' if below else f'{above}'
    raise UserError(
        f'config.{name} {batch_size} does not divide over {mesh.size} '
        f'devices{accum}; the nearest that does is {near}.')
