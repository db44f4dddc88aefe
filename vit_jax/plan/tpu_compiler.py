"""Compiles the real train step for TPUs that are not here, with PyPI's libtpu."""

import dataclasses
import importlib.util
import re
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from vit_jax.parallel.tpu_slices import Slice
from vit_jax.plan.data_facts import Facts
from vit_jax.runtime.errors import UserError, first_line
from vit_jax.training.job import Job
from vit_jax.training.programs import TrainStep

_CACHE_SETTING = 'jax_enable_compilation_cache'


def available() -> bool:
  """Whether this machine can compile for TPUs."""
  return importlib.util.find_spec('libtpu') is not None


@dataclasses.dataclass(frozen=True)
class OutOfMemory:
  """The compiler's verdict that a step does not fit into a device's memory."""
  # What was asked for and what there is; 0 where the compiler did not say.
  needed: int
  usable: int
  message: str


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A compiled step and what the compiler says about it; bytes on one device."""
  arguments: int
  temporaries: int
  code: int
  text: str
  # XLA's count, where it is right: None for a program with loops, which it counts once.
  xla_flops: float | None
  dtype: str
  seconds_to_compile: float

  @property
  def total(self) -> int:
    return self.arguments + self.temporaries + self.code


def devices(slice_: Slice, slices: int = 1) -> Sequence[Any]:
  """JAX's descriptions of the devices of a topology.

  Raises:
    UserError: if libtpu does not know it.
  """
  options: dict[str, str | int] = {}
  if slice_.generation.chip_config:
    options['chip_config_name'] = slice_.generation.chip_config
  if slices > 1:
    options['num_slices'] = slices
  try:
    return topologies.get_topology_desc(
        platform='tpu', topology_name=slice_.name, **options).devices
  except Exception as e:  # libtpu's errors have no class of their own
    raise UserError(
        f'The installed libtpu cannot describe {slice_.name}'
        f'{f" x {slices} slices" if slices > 1 else ""}: {first_line(e)} Upgrade it, '
        'or plan with --analytic.') from e


def lower(job: Job, facts: Facts) -> jax.stages.Lowered:
  """The job's train step, lowered for the devices of its mesh."""
  return TrainStep(
      job.setup, facts.remaining, facts.stored_shape, facts.label_shape).lower()


def compile_step(lowered: jax.stages.Lowered, job: Job) -> Compiled | OutOfMemory:
  """Compiles what `lower` returned for a job.

  Raises:
    UserError: where the compiler refuses the program for another reason than memory.
  """
  began = time.monotonic()
  # A program that was kept for TPUs could not be loaded back here.
  enabled = getattr(jax.config, _CACHE_SETTING)
  jax.config.update(_CACHE_SETTING, False)
  try:
    compiled = job.setup.compile(lowered)
  except (jax.errors.JaxRuntimeError, ValueError) as e:
    return _out_of_memory(e)
  finally:
    jax.config.update(_CACHE_SETTING, enabled)
  memory, text = compiled.memory_analysis(), compiled.as_text()
  assert memory and text, 'the TPU compiler gives both'
  return Compiled(
      memory.argument_size_in_bytes,
      memory.temp_size_in_bytes + memory.output_size_in_bytes
      - memory.alias_size_in_bytes,
      memory.generated_code_size_in_bytes, text, _xla_flops(compiled, text),
      str(job.model.dtype), time.monotonic() - began)


def _xla_flops(compiled: jax.stages.Compiled, text: str) -> float | None:
  if re.search(r' while\(', text):
    return None
  costs = compiled.cost_analysis()
  costs = costs[0] if isinstance(costs, list) else costs
  return costs.get('flops') if costs else None


_UNITS = {'': 1, 'B': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_SIZE = r'([\d.]+)([KMGTB]?)'
# Both wordings of libtpu: of what was too large, and of all that was needed.
_WORDINGS = (
    rf'temporaries \({_SIZE}\) exceeds available HBM \({_SIZE}\)',
    rf'Used {_SIZE} of {_SIZE} hbm',
    rf'\({_SIZE}\) exceeds (?:available|the available) HBM \({_SIZE}\)')


def parse_out_of_memory(message: str) -> OutOfMemory:
  """The sizes in the compiler's RESOURCE_EXHAUSTED message."""
  for wording in _WORDINGS:
    match = re.search(wording, message)
    if match:
      needed, usable = (round(float(match[i]) * _UNITS[match[i + 1]]) for i in (1, 3))
      return OutOfMemory(needed, usable, message)
  return OutOfMemory(0, 0, message)


def _out_of_memory(error: Exception) -> OutOfMemory:
  """The verdict in the compiler's error; raises UserError for another error."""
  message = str(error)
  # VMEM, the chip's scratchpad, is exhausted by options, not by the model.
  if 'RESOURCE_EXHAUSTED' in message and 'memory space vmem' not in message:
    return parse_out_of_memory(message)
  raise UserError(
      f'The TPU compiler refuses this program: {first_line(error)} If '
      'config.xla_options are set, leave them out one by one.') from error
