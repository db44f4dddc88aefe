"""One configuration on one slice: what its train step needs and how long it takes."""

import dataclasses
import pathlib
from typing import Any

import jax

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.parallel import auto_mesh
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.parallel.tpu_slices import Slice
from vit_jax.plan import memory, program_cost, tpu_compiler
from vit_jax.plan.cost_cache import CostCache, program_key
from vit_jax.plan.data_facts import Facts
from vit_jax.plan.network import Network
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.files import write_text
from vit_jax.training import job as job_lib
from vit_jax.training.job import Job


@dataclasses.dataclass(frozen=True)
class Target:
  """Where a step is to run."""
  slice: Slice
  slices: int = 1

  @property
  def devices(self) -> int:
    return self.slice.devices * self.slices

  @property
  def name(self) -> str:
    return self.slice.name + (f' x {self.slices} slices' if self.slices > 1 else '')


@dataclasses.dataclass(frozen=True)
class StepCost:
  """Bytes are of one device, FLOPs of a step; zeros where nothing was compiled."""
  mesh: tuple[int, int]
  total_steps: int
  # Exact, from shapes.
  params: int
  opt_state: int
  ema: int
  # All of it while a step runs: the compiler's allocation, or an estimate.
  total: int
  usable: int
  fits: bool
  # Of the model, on all devices, recomputation not counted.
  model_flops: int
  compiled: bool = False
  # Why the step can't be compiled, in words.
  problem: str = ''
  arguments: int = 0
  temporaries: int = 0
  code: int = 0
  # Of the compiled program, on one device.
  program_flops: float = 0.0
  xla_flops: float = 0.0
  hbm_bytes: float = 0.0
  # Seconds of a step; see `program_cost.ProgramCost`.
  seconds: float = 0.0
  seconds_low: float = 0.0
  network_exposed: float = 0.0
  network_busy: float = 0.0
  collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
  dtype: str = ''
  seconds_to_compile: float = 0.0
  notes: tuple[str, ...] = ()


def resolve_mesh(config: Config, facts: Facts, target: Target) -> Config:
  """`config` with the mesh that a run on the target would choose for itself.

  Raises:
    UserError: where batch, mesh and devices do not fit each other.
  """
  if config.mesh.fsdp == 0:
    plain = config_lib.with_values(config, {'mesh.data': -1, 'mesh.fsdp': 1})
    job = _abstract_job(plain, facts, target)
    chosen = auto_mesh.choose(
        config.mesh, job.mesh.devices.flatten().tolist(), job.abstract_state)
    config = dataclasses.replace(config, mesh=chosen)
  mesh = memory.abstract_mesh(config, target.slice, target.slices)
  mesh_lib.check_batch(mesh, config.batch_size, config.accum_steps)
  return config


def _abstract_job(config: Config, facts: Facts, target: Target) -> Job:
  mesh = memory.abstract_mesh(config, target.slice, target.slices)
  return job_lib.build(
      config, mesh, facts.num_classes, job_lib.total_steps(config, facts.num_examples))


def from_shapes(config: Config, facts: Facts, target: Target) -> StepCost:
  """An estimate in a second, without libtpu.

  Raises:
    UserError: where model, batch or mesh do not fit each other.
  """
  job = _abstract_job(resolve_mesh(config, facts, target), facts, target)
  found = memory.estimate(job, facts.stored_shape)
  usable = memory.usable(target.slice)
  return StepCost(
      tuple(job.mesh.devices.shape), job.total_steps, found.params, found.opt_state,
      found.ema, found.total, usable, found.total <= usable, memory.step_flops(job),
      dtype=str(job.model.dtype))


def from_compiler(config: Config, facts: Facts, target: Target,
                  cache: CostCache | None = None, save_hlo: str = '') -> StepCost:
  """What the TPU compiler makes of the train step; see `from_shapes` for the rest.

  Args:
    config: of the run.
    facts: of its data.
    target: the slices.
    cache: results of earlier runs.
    save_hlo: file for the text of the compiled program; '': none.
  """
  config = resolve_mesh(config, facts, target)
  estimate = from_shapes(config, facts, target)
  mesh = mesh_lib.create(
      config.mesh, tpu_compiler.devices(target.slice, target.slices))
  job = job_lib.build(config, mesh, facts.num_classes, estimate.total_steps)
  lowered = tpu_compiler.lower(job, facts)
  key = program_key(lowered, config, target.name)
  if cache is not None and key in cache and not save_hlo:
    return dataclasses.replace(estimate, **cache[key])
  network = Network.of(target.slice, mesh.devices.flat)
  found = _compile(lowered, job, network, save_hlo)
  if cache is not None:
    cache[key] = found
  return dataclasses.replace(estimate, **found)


def _compile(lowered: jax.stages.Lowered, job: Job, network: Network,
             save_hlo: str) -> dict[str, Any]:
  """The fields of a StepCost that come from the compiler; JSON can hold them."""
  try:
    program = tpu_compiler.compile_step(lowered, job)
  except UserError as e:
    return {'compiled': True, 'fits': False, 'problem': str(e), 'total': 0}
  if isinstance(program, tpu_compiler.OutOfMemory):
    found: dict[str, Any] = {
        'compiled': True, 'fits': False, 'total': program.needed,
        'problem': 'out of memory: ' + program.message.splitlines()[0]}
    return found | ({'usable': program.usable} if program.usable else {})
  if save_hlo:
    _save(save_hlo, program.text)
  found = {name: getattr(program, name) for name in (
      'arguments', 'temporaries', 'code', 'total', 'dtype', 'seconds_to_compile')}
  found |= {'compiled': True, 'fits': True, 'xla_flops': program.xla_flops or 0.0}
  if not network.slice.generation.clock_ghz:
    return found | {'notes': (
        f'the clock of {network.slice.generation.name} is not known: no step time',)}
  estimate = program_cost.estimate(program.text, network)
  return found | {
      'program_flops': estimate.flops, **{name: getattr(estimate, name) for name in (
          'seconds', 'seconds_low', 'network_exposed', 'network_busy', 'hbm_bytes',
          'collectives', 'notes')}}


def _save(path: str, text: str) -> None:
  try:
    write_text(pathlib.Path(path), text)
  except OSError as e:
    raise UserError(f'Cannot write --save_hlo={path}: {e.strerror}. Give a file in a '
                    'folder that exists.') from e
