"""TPU slices by the names that people use, and what their chips are.

Names come in two spellings: an accelerator type as Cloud TPU writes it ('v4-32',
'v5litepod-256'), whose number counts TensorCores in some generations and chips in
others, and a generation with its shape in chips ('v5e:16x16'). Imports nothing heavy:
the launcher uses this, too.
"""

import dataclasses
import difflib
import math
import re

from vit_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Generation:
  """One kind of chip. Rates are per chip, from Google's published specifications."""
  name: str
  # Accelerator types are '<accelerator>-<number>'.
  accelerator: str
  # What the number counts: 2 TensorCores of every chip, or 1: chips.
  counted_per_chip: int
  # Dims of a slice's network.
  dims: int
  peak_tflops: float  # bfloat16
  hbm_gib: float
  hbm_gbps: float
  # GB/s of one network link in one direction.
  link_gbps: float
  # GB/s of a chip's share of its host's data centre network, for several slices.
  dcn_gbps: float
  # JAX devices of a chip; a megacore chip is one.
  devices_per_chip: int
  # Of the cycles in the TPU compiler's estimates; 0: not known.
  clock_ghz: float
  # As JAX calls its devices.
  device_kind: str
  # Value of the node label cloud.google.com/gke-tpu-accelerator; '': not on GKE.
  gke_accelerator: str
  # GKE machine types are '<machine>-<chips>t'.
  machine: str
  # Shapes that have an accelerator type, smallest first.
  topologies: tuple
  # Chips of the largest slice.
  most_chips: int
  # `chip_config_name` of JAX's topology call, for one device per chip.
  chip_config: str = ''
  aliases: tuple = ()


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8',
          '8x8x16', '8x16x16')

# https://docs.cloud.google.com/tpu/docs and the GKE pages of the same site; the clocks
# follow from the peak rates and the sizes of the matrix units.
GENERATIONS = {g.name: g for g in (
    Generation('v2', 'v2', 2, 2, 45, 16, 700, 62, 3.1, 2, 0.7, 'TPU v2', '', '',
               ('2x2', '4x4', '8x8', '8x16', '16x16'), 256),
    Generation('v3', 'v3', 2, 2, 123, 32, 900, 82, 3.1, 2, 0.94, 'TPU v3', '', '',
               ('2x2', '4x4', '4x8', '8x8', '8x16', '16x16', '16x32', '32x32'), 1024),
    Generation('v4', 'v4', 2, 3, 275, 32, 1228, 45, 6.2, 1, 1.05, 'TPU v4',
               'tpu-v4-podslice', 'ct4p-hightpu', _CUBES, 4096, chip_config='megacore'),
    Generation('v5e', 'v5litepod', 1, 2, 197, 16, 819, 45, 3.1, 1, 1.5,
               'TPU v5 lite', 'tpu-v5-lite-podslice', 'ct5lp-hightpu', _FLAT, 256,
               aliases=('v5lite',)),
    Generation('v5p', 'v5p', 2, 3, 459, 95, 2765, 90, 6.2, 1, 1.75, 'TPU v5',
               'tpu-v5p-slice', 'ct5p-hightpu', (*_CUBES, '16x16x16', '16x16x24'),
               6144),
    Generation('v6e', 'v6e', 1, 2, 918, 32, 1640, 90, 12.5, 1, 1.75, 'TPU v6 lite',
               'tpu-v6e-slice', 'ct6e-standard', _FLAT, 256, aliases=('trillium',)),
    Generation('tpu7x', 'tpu7x', 2, 3, 2307, 192, 7380, 100, 12.5, 2, 0, 'TPU7x',
               'tpu7x', 'tpu7x-standard', ('1x1x1', *_CUBES), 9216,
               aliases=('ironwood',)),
)}


@dataclasses.dataclass(frozen=True)
class Slice:
  """`chips` chips of one generation, wired as `topology`."""
  generation: Generation
  topology: str

  @property
  def shape(self) -> tuple[int, ...]:
    return tuple(int(n) for n in self.topology.split('x'))

  @property
  def chips(self) -> int:
    return math.prod(self.shape)

  @property
  def devices(self) -> int:
    """Number of JAX devices."""
    return self.chips * self.generation.devices_per_chip

  @property
  def chips_per_host(self) -> int:
    # A flat slice of eight chips is one machine; larger ones have four on each.
    if self.generation.dims == 2 and self.chips == 8:
      return 8
    return min(self.chips, 4)

  @property
  def hosts(self) -> int:
    return self.chips // self.chips_per_host

  @property
  def accelerator_type(self) -> str:
    """As `gcloud ... --accelerator-type` takes it; '' if the shape has none."""
    if self.topology not in self.generation.topologies:
      return ''
    count = self.chips * self.generation.counted_per_chip
    return f'{self.generation.accelerator}-{count}'

  @property
  def gke_accelerator(self) -> str:
    return self.generation.gke_accelerator

  @property
  def machine_type(self) -> str:
    """GKE's machine type; '' where GKE does not have the generation."""
    machine = self.generation.machine
    return machine and f'{machine}-{self.chips_per_host}t'

  @property
  def name(self) -> str:
    """'v5e:16x16'; what JAX's topology call takes."""
    return f'{self.generation.name}:{self.topology}'

  @property
  def hbm_bytes(self) -> int:
    """Of one JAX device."""
    return int(self.generation.hbm_gib * 2**30 / self.generation.devices_per_chip)

  @property
  def peak_flops(self) -> float:
    """bfloat16 FLOP/s of one JAX device."""
    return self.generation.peak_tflops * 1e12 / self.generation.devices_per_chip

  @property
  def hbm_bytes_per_second(self) -> float:
    """Of one JAX device."""
    return self.generation.hbm_gbps * 1e9 / self.generation.devices_per_chip

  def wraps(self, dim: int) -> bool:
    """Whether the chips along a dim of the network form a ring."""
    if self.generation.name in ('v5e', 'v6e'):
      return self.shape[dim] == 16
    if self.generation.dims == 2:
      return self.chips == self.generation.most_chips
    return all(n % 4 == 0 for n in self.shape)


def parse(name: str) -> Slice:
  """The slice that a name means.

  Args:
    name: an accelerator type such as 'v4-32' or 'v5litepod-256', or a generation and
      a shape in chips such as 'v5e:16x16'. Case does not matter.

  Raises:
    UserError: with the valid names nearest to it.
  """
  text = name.strip().lower().removeprefix('tpu-')
  match = re.fullmatch(r'([a-z0-9]+)([-:])([0-9]+(?:x[0-9]+)*)', text)
  generation = match and _generation(match[1])
  if not generation:
    raise UserError(_unknown(name, text))
  if 'x' in match[3]:
    return _by_shape(name, generation, match[3])
  if match[2] == ':':
    raise UserError(
        f'{name!r}: after a colon comes a shape in chips, such as '
        f'{generation.name}:{generation.topologies[-1]}; an accelerator type is '
        f'written {accelerator_types(generation)[-1]}.')
  return _by_count(name, generation, int(match[3]))


def accelerator_types(generation: Generation) -> list[str]:
  """All accelerator types of a generation, smallest first."""
  return [Slice(generation, t).accelerator_type for t in generation.topologies]


def _generation(word):
  for generation in GENERATIONS.values():
    if word in (generation.name, generation.accelerator, *generation.aliases):
      return generation
  return None


def _by_count(name, generation, count):
  for topology in generation.topologies:
    found = Slice(generation, topology)
    if found.chips * generation.counted_per_chip == count:
      return found
  unit = 'chips' if generation.counted_per_chip == 1 else 'TensorCores, two on a chip'
  raise UserError(
      f'There is no slice {name!r}. Expected one of '
      f'{", ".join(accelerator_types(generation))} (the number counts {unit}), or a '
      f'shape in chips such as {generation.name}:{generation.topologies[-1]}.')


def _by_shape(name, generation, topology):
  found = Slice(generation, topology)
  if topology in generation.topologies or _whole_cubes(found):
    return found
  cubes = ''
  if generation.dims == 3:
    cubes = (', and of whole cubes: three multiples of 4 in ascending order, at most '
             f'{generation.most_chips} chips')
  raise UserError(
      f'There is no {generation.name} slice of shape {topology}. Expected one of '
      f'{", ".join(generation.topologies)} chips{cubes}.')


def _whole_cubes(found):
  shape = found.shape
  return (found.generation.dims == len(shape) == 3 and list(shape) == sorted(shape)
          and all(n and n % 4 == 0 for n in shape)
          and found.chips <= found.generation.most_chips)


def _unknown(name, text):
  known = [t for g in GENERATIONS.values() for t in accelerator_types(g)]
  known += [f'{g.name}:{t}' for g in GENERATIONS.values() for t in g.topologies]
  near = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
  hint = f' Did you mean {" or ".join(near)}?' if near else ''
  return (
      f'There is no TPU slice {name!r}.{hint} Expected an accelerator type such as '
      'v4-32, v5litepod-256, v5p-128 or v6e-64, or a generation from '
      f'{", ".join(GENERATIONS)} with a shape in chips, such as v5e:16x16.')
