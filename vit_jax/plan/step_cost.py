"""One configuration on one slice: what its train step needs and how long it takes."""

import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.parallel import choice
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.plan import compile as compile_lib
from vit_jax.plan import cost, data_facts, memory
from vit_jax.plan.network import Network
from vit_jax.plan.slices import Slice
from vit_jax.runtime.compiler_options import compiler_options
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.files import write_json, write_text
from vit_jax.training import job as job_lib


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
class Result:
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
  # Seconds of a step; see `cost.Estimate`.
  seconds: float = 0.0
  seconds_low: float = 0.0
  network_exposed: float = 0.0
  network_busy: float = 0.0
  collectives: dict = dataclasses.field(default_factory=dict)
  dtype: str = ''
  seconds_to_compile: float = 0.0
  notes: tuple = ()


def resolve(config: Config, facts: data_facts.Facts, target: Target) -> Config:
  """`config` with the mesh that a run on the target would choose for itself.

  Raises:
    UserError: where batch, mesh and devices do not fit each other.
  """
  if config.mesh.fsdp == 0:
    plain = config_lib.with_values(config, {'mesh.data': -1, 'mesh.fsdp': 1})
    job = _abstract_job(plain, facts, target)
    chosen = choice.choose(
        config.mesh, job.mesh.devices.flatten().tolist(), job.abstract_state)
    config = dataclasses.replace(config, mesh=chosen)
  mesh = memory.abstract_mesh(config, target.slice, target.slices)
  mesh_lib.check_batch(mesh, config.batch_size, config.accum_steps)
  return config


def _abstract_job(config, facts, target):
  mesh = memory.abstract_mesh(config, target.slice, target.slices)
  return job_lib.build(
      config, mesh, facts.num_classes, data_facts.total_steps(config, facts))


def analyse(config: Config, facts: data_facts.Facts, target: Target) -> Result:
  """From shapes alone, in a second; without libtpu.

  Raises:
    UserError: where model, batch or mesh do not fit each other.
  """
  job = _abstract_job(resolve(config, facts, target), facts, target)
  found = memory.estimate(job, facts.stored_shape)
  usable = memory.usable(target.slice)
  return Result(
      tuple(job.mesh.devices.shape), job.total_steps, found.params, found.opt_state,
      found.ema, found.total, usable, found.total <= usable, memory.step_flops(job),
      dtype=str(job.model.dtype))


def compiled(config: Config, facts: data_facts.Facts, target: Target,
             cache: 'Cache | None' = None, save_hlo: str = '') -> Result:
  """What the TPU compiler makes of the train step; see `analyse` for the rest.

  Args:
    config: of the run.
    facts: of its data.
    target: the slices.
    cache: results of earlier runs.
    save_hlo: file for the text of the compiled program; '': none.
  """
  config = resolve(config, facts, target)
  result = analyse(config, facts, target)
  mesh = mesh_lib.create(
      config.mesh, compile_lib.devices(target.slice, target.slices))
  job = job_lib.build(config, mesh, facts.num_classes, result.total_steps)
  lowered = compile_lib.lower(job, facts)
  key = _key(lowered, config, target)
  if cache is not None and key in cache and not save_hlo:
    return dataclasses.replace(result, **cache[key])
  network = Network.of(target.slice, mesh.devices.flat)
  found = _compile(lowered, job, network, save_hlo)
  if cache is not None:
    cache[key] = found
  return dataclasses.replace(result, **found)


def _compile(lowered, job, network, save_hlo):
  """The fields of a Result that come from the compiler."""
  try:
    program = compile_lib.compile_step(lowered, job)
  except UserError as e:
    return {'compiled': True, 'fits': False, 'problem': str(e), 'total': 0}
  if isinstance(program, compile_lib.OutOfMemory):
    found = {'compiled': True, 'fits': False, 'total': program.needed,
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
  estimate = cost.estimate(program.text, network)
  return found | {
      'program_flops': estimate.flops, **{name: getattr(estimate, name) for name in (
          'seconds', 'seconds_low', 'network_exposed', 'network_busy', 'hbm_bytes',
          'collectives', 'notes')}}


def _save(path, text):
  try:
    write_text(pathlib.Path(path), text)
  except OSError as e:
    raise UserError(f'Cannot write --save_hlo={path}: {e.strerror}. Give a file in a '
                    'folder that exists.') from e


class Cache:
  """Results in a JSON file that is always complete, by program and compiler."""

  def __init__(self, path):
    self._path = pathlib.Path(path)
    self._values = {}
    if self._path.exists():
      try:
        self._values = json.loads(self._path.read_text(encoding='utf-8'))
      except (OSError, ValueError) as e:
        raise UserError(f'Cannot read {path}: {e} Remove it, or name another file.'
                        ) from e

  def __contains__(self, key):
    return key in self._values

  def __getitem__(self, key):
    return self._values[key]

  def __setitem__(self, key, value):
    self._values[key] = value
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      write_json(self._path, self._values)
    except OSError as e:
      raise UserError(f'Cannot write {self._path}: {e.strerror}. Name another file.'
                      ) from e


def _key(lowered, config, target):
  """Names the program, the compiler and its options."""
  parts = [lowered.as_text(), target.name,
           json.dumps(compiler_options(config, 'tpu'), sort_keys=True),
           *(importlib.metadata.version(p) for p in ('jax', 'libtpu'))]
  # The estimate is ours.
  parts += [pathlib.Path(cost.__file__).with_name(name).read_text(encoding='utf-8')
            for name in ('cost.py', 'hlo_traffic.py', 'hlo_flops.py', 'network.py',
                         'slices.py')]
  return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:24]


def settings(config: Config, keys) -> dict:
  """{key: value} of some settings of a configuration."""
  return {key: config_lib.get(config, key) for key in keys}
