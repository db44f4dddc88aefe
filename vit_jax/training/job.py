"""From a configuration to what gets compiled: model, optimizer, mesh, state.

Training, evaluation, prediction, planning and benchmarks build the same job, so
that they speak of the same program.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.models import layout, variants
from vit_jax.objectives import classification, losses
from vit_jax.parallel import choice, rules
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.compiler_options import compiler_options
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.reuse import Reuse
from vit_jax.training import optimizers, schedules
from vit_jax.training import state as state_lib
from vit_jax.training import step as step_lib
from vit_jax.training.state import TrainState
from vit_jax.training.step import Rates


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything static about a run; no array has been made yet."""
  config: Config
  mesh: jax.sharding.Mesh
  num_classes: int
  total_steps: int
  model: Any
  # `step -> learning rate`.
  schedule: Callable[[int], float]
  optimizer: optax.GradientTransformation
  # TrainState of ShapeDtypeStructs that carry their shardings.
  abstract_state: TrainState

  def rates(self, step: int) -> Rates:
    """What the train step is told at `step`, the number of finished updates."""
    return Rates(np.float32(self.schedule(step)),
                 np.float32(self.config.optimizer.weight_decay))


def build(config: Config, mesh, num_classes: int, total_steps: int = 0,
          reuse: Reuse | None = None) -> Job:
  """Builds the job; costs a trace of the initialisation, no computation.

  Args:
    config: the checked settings.
    mesh: see `vit_jax.parallel.mesh`; where `config.mesh` leaves it open, the job's
      own mesh is one over the same devices that suits its state.
    num_classes: of the data set.
    total_steps: length of the training; 0 for a job that only evaluates and so
      has no optimizer.
    reuse: what earlier jobs of the same process left.
  """
  platform = mesh.devices.flat[0].platform
  model = variants.from_section(config.model, num_classes, platform)
  schedule, optimizer = _no_schedule, optax.identity()
  if total_steps:
    schedule = schedules.learning_rate(
        config.schedule, config.optimizer.learning_rate, total_steps)
    optimizer = optimizers.create(config.optimizer)
  mesh, abstract = (reuse or Reuse()).program(
      ('state', program_config(config), mesh, num_classes, total_steps > 0),
      lambda: _abstract_state(config, mesh, model, optimizer))
  return Job(config, mesh, num_classes, total_steps, model, schedule, optimizer,
             abstract)


def _no_schedule(step: int) -> float:
  del step
  return 0.0


# Settings that no compiled program depends on: how long to train and at which rates,
# where data come from and what is done with the results. What the accelerator does of
# the preprocessing is handed to it separately.
_NOT_COMPILED = (
    'seed', 'total_steps', 'total_epochs', 'log_every', 'eval_every',
    'eval_batch_size', 'keep_host_memory', 'schedule', 'checkpoint', 'init', 'profile',
    'evaluators', 'tuned', 'optimizer.learning_rate', 'data.name', 'data.dir',
    'data.train_split', 'data.val_split', 'data.test_split', 'data.image_key',
    'data.label_key', 'data.label_rule', 'data.pixel_factor', 'data.train', 'data.eval',
    'data.cache', 'data.cache_limit_gib', 'data.max_bad_records', 'data.max_examples',
    'data.decode_threads')


def program_config(config: Config) -> Config:
  """`config` reduced to what compiled programs depend on: equal means the same ones."""
  default = Config()
  for key in _NOT_COMPILED:
    config = config_lib.replace(config, key, config_lib.get(default, key))
  # The rate is an argument of the step, its absence is another optimizer.
  return config_lib.replace(
      config, 'optimizer.weight_decay', float(config.optimizer.weight_decay > 0))


def check(config: Config):
  """Raises UserError for settings that no data set could make right."""
  variants.from_section(config.model, 1, 'cpu')
  losses.create(config.loss)
  schedules.learning_rate(
      config.schedule, config.optimizer.learning_rate,
      # The length of a run given in epochs depends on the data.
      config.total_steps or 2**31 - 1)
  optimizers.create(config.optimizer)


def _abstract_state(config, mesh, model, optimizer):
  """(the mesh that suits the state, the state with its shardings)."""
  shapes = jax.eval_shape(_init_function(config, model, optimizer), 0)
  mesh = choice.fit(config.mesh, mesh, shapes)
  return mesh, jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes, rules.state_shardings(shapes, mesh))


def _init_function(config, model, optimizer):
  def init(seed):
    params = layout.init(model, jax.random.key(seed), config.data.image_size)
    return state_lib.create(params, optimizer, ema=config.ema_decay > 0)
  return init


def compile_lowered(job: Job, lowered):
  """Compiles what was lowered for a job with the options for its platform.

  Defaults of ours that the compiler doesn't know are left out, with a warning.

  Raises:
    UserError: if it doesn't know an option of `config.xla_options`.
  """
  options = compiler_options(job.config, job.mesh.devices.flat[0].platform)
  while True:
    try:
      return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as e:
      unknown = re.search("No such compile option: '([^']*)'", str(e))
      if not unknown:
        raise
      name = unknown[1]
      if name in dict(job.config.xla_options):
        raise UserError(
            f'config.xla_options has {name!r}, which this compiler does not know. '
            'Leave it out, or look up its name for the installed versions.') from e
      warn(f'this compiler does not know {name!r}: compiling without it')
      options.pop(name)


def shardings(job: Job):
  return jax.tree.map(lambda x: x.sharding, job.abstract_state)


def init_state(job: Job, reuse: Reuse | None = None) -> TrainState:
  """The first state; every device computes only what it will hold."""
  def make():
    init = _init_function(job.config, job.model, job.optimizer)
    # It runs once: on a CPU, optimising it takes longer than it will ever save.
    on_cpu = job.mesh.devices.flat[0].platform == 'cpu'
    options = {'xla_backend_optimization_level': '0'} if on_cpu else None
    jitted = jax.jit(init, out_shardings=shardings(job))
    return jitted.lower(jax.ShapeDtypeStruct((), jnp.uint32)).compile(options)
  init = (reuse or Reuse()).program(('init', *_key(job)), make)
  return init(np.uint32(job.config.seed))


def _key(job):
  """What every program of a job depends on."""
  return program_config(job.config), job.mesh, job.num_classes


def abstract_batch(job: Job, batch_size: int, stored_shape, *, mask=False) -> dict:
  """Shapes and shardings of a global batch as the input pipeline yields it."""
  sharding = mesh_lib.over_batch(job.mesh)
  def array(shape, dtype):
    return jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)
  # One class per image, or a set of classes.
  most = job.config.data.max_labels
  label_shape = (most,) if most else ()
  batch = {'image': array(stored_shape, jnp.uint8),
           'label': array(label_shape, jnp.int32)}
  return {**batch, 'mask': array((), jnp.bool_)} if mask else batch


def lower_train_step(job: Job, remaining, stored_shape):
  """The lowered train step: `.compile()` takes (state, batch, seed, rates).

  Args:
    job: the job.
    remaining: preprocessing left to the accelerator, see `data.open_input`.
    stored_shape: (h, w, 3) of the uint8 images that arrive.
  """
  config = job.config
  step = step_lib.make_train_step(
      job.optimizer,
      classification.make_prepare(config, remaining, job.num_classes),
      classification.make_objective(job.model, losses.create(config.loss)),
      accum_steps=config.accum_steps, ema_decay=config.ema_decay)
  jitted = jax.jit(
      step, donate_argnums=0,
      out_shardings=(shardings(job), mesh_lib.replicated(job.mesh)))
  seed = jax.ShapeDtypeStruct((), jnp.uint32)
  batch = abstract_batch(job, config.batch_size, stored_shape)
  rate = jax.ShapeDtypeStruct((), jnp.float32)
  return jitted.lower(job.abstract_state, batch, seed, Rates(rate, rate))


def compile_train_step(job: Job, remaining, stored_shape, reuse: Reuse | None = None):
  """`lower_train_step`, compiled unless `reuse` has it."""
  return (reuse or Reuse()).program(
      ('train', *_key(job), remaining, stored_shape),
      lambda: compile_lowered(job, lower_train_step(job, remaining, stored_shape)))


def lower_eval_step(job: Job, remaining, stored_shape, batch_size: int):
  """The lowered evaluation step: `.compile()(params, batch) -> sums`."""
  step = classification.make_eval_step(
      job.model, job.config, remaining, job.num_classes)
  jitted = jax.jit(step, out_shardings=mesh_lib.replicated(job.mesh))
  return jitted.lower(
      job.abstract_state.eval_params,
      abstract_batch(job, batch_size, stored_shape, mask=True))


def compile_eval_step(job: Job, remaining, stored_shape, batch_size: int,
                      reuse: Reuse | None = None):
  """`lower_eval_step`, compiled unless `reuse` has it."""
  return (reuse or Reuse()).program(
      ('eval', *_key(job), remaining, stored_shape, batch_size),
      lambda: compile_lowered(
          job, lower_eval_step(job, remaining, stored_shape, batch_size)))
