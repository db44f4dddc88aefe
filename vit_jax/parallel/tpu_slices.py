"""TPU slices by the names that people use.

Names come in two spellings: an accelerator type as Cloud TPU writes it ('v4-32',
'v5litepod-256'), whose number counts TensorCores in some generations and chips in
others, and a generation with its shape in chips ('v5e:16x16'). Imports nothing heavy:
the launcher uses this, too.
"""

import dataclasses
import difflib
import math
import re

from vit_jax.parallel.tpu_generations import GENERATIONS, Generation
from vit_jax.runtime.errors import UserError


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
    return self.generation.hbm_bytes_per_device

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
  generation = _generation(match[1]) if match else None
  if match is None or generation is None:
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


def _generation(word: str) -> Generation | None:
  for generation in GENERATIONS.values():
    if word in (generation.name, generation.accelerator, *generation.aliases):
      return generation
  return None


def _by_count(name: str, generation: Generation, count: int) -> Slice:
  for topology in generation.topologies:
    found = Slice(generation, topology)
    if found.chips * generation.counted_per_chip == count:
      return found
  unit = 'chips' if generation.counted_per_chip == 1 else 'TensorCores, two on a chip'
  raise UserError(
      f'There is no slice {name!r}. Expected one of '
      f'{", ".join(accelerator_types(generation))} (the number counts {unit}), or a '
      f'shape in chips such as {generation.name}:{generation.topologies[-1]}.')


def _by_shape(name: str, generation: Generation, topology: str) -> Slice:
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


def _whole_cubes(found: Slice) -> bool:
  shape = found.shape
  return (found.generation.dims == len(shape) == 3 and list(shape) == sorted(shape)
          and all(n and n % 4 == 0 for n in shape)
          and found.chips <= found.generation.most_chips)


def _unknown(name: str, text: str) -> str:
  known = [t for g in GENERATIONS.values() for t in accelerator_types(g)]
  known += [f'{g.name}:{t}' for g in GENERATIONS.values() for t in g.topologies]
  near = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
  hint = f' Did you mean {" or ".join(near)}?' if near else ''
  return (
      f'There is no TPU slice {name!r}.{hint} Expected an accelerator type such as '
      'v4-32, v5litepod-256, v5p-128 or v6e-64, or a generation from '
      f'{", ".join(GENERATIONS)} with a shape in chips, such as v5e:16x16.')
