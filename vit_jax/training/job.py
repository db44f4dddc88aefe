"""From a configuration to what gets compiled: model, optimizer, mesh, state.

Training, evaluation, prediction, planning and benchmarks build the same job, so
that they speak of the same program.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.models.model import Model
from vit_jax.runtime.program_cache import ProgramCache
from vit_jax.training import schedules
from vit_jax.training.programs import InitStep, Setup
from vit_jax.training.state import TrainState
from vit_jax.training.step import Rates


@dataclasses.dataclass(frozen=True)
class Job:
  """Everything static about a run; no array has been made yet."""
  config: Config
  total_steps: int
  # `step -> learning rate`.
  schedule: Callable[[int], float]
  # What its programs are built from.
  setup: Setup

  @property
  def mesh(self) -> Mesh:
    return self.setup.mesh

  @property
  def model(self) -> Model:
    return self.setup.model

  @property
  def num_classes(self) -> int:
    return self.setup.num_classes

  @property
  def abstract_state(self) -> TrainState:
    """Of ShapeDtypeStructs that carry their shardings."""
    return self.setup.abstract_state

  def rates(self, step: int) -> Rates:
    """What the train step is told at `step`, the number of finished updates."""
    return Rates(np.float32(self.schedule(step)),
                 np.float32(self.config.optimizer.weight_decay))


def build(config: Config, mesh: Mesh, num_classes: int, total_steps: int = 0,
          programs: ProgramCache | None = None) -> Job:
  """Builds the job; costs a trace of the initialisation, no computation.

  Args:
    config: the checked settings.
    mesh: see `vit_jax.parallel.mesh`; where `config.mesh` leaves it open, the job's
      own mesh is one over the same devices that suits its state.
    num_classes: of the data set.
    total_steps: length of the training; 0 for a job that only evaluates and so
      has no optimizer.
    programs: those of earlier jobs of the same process.
  """
  schedule = _no_schedule
  if total_steps:
    schedule = schedules.learning_rate(
        config.schedule, config.optimizer.learning_rate, total_steps)
  setup = Setup(
      config_lib.compiled(config), mesh, num_classes, trains=total_steps > 0)
  return Job(config, total_steps, schedule, (programs or ProgramCache()).get(setup))


def total_steps(config: Config, num_examples: int) -> int:
  """Length of a run on so many training examples."""
  return config.total_steps or max(1, round(
      config.total_epochs * num_examples / config.batch_size))


def init_state(job: Job, programs: ProgramCache | None = None) -> TrainState:
  """The first state; every device computes only what it will hold."""
  init = (programs or ProgramCache()).get(InitStep(job.setup))
  return init(np.uint32(job.config.seed))


def _no_schedule(step: int) -> float:
  del step
  return 0.0
