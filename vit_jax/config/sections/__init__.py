"""Typed sections of a run's configuration: every setting, declared once.

A config file returns an `ml_collections.ConfigDict`; `vit_jax.config` completes
and checks it and turns it into the frozen dataclasses below. No code past that
boundary sees a `ConfigDict`. The defaults here are the defaults of every run. What
`setting` is told is explained at `vit_jax.config.settings.Setting`.
"""

import dataclasses
from typing import Any

from vit_jax.config.sections.data import DataSection, PreprocessSection
from vit_jax.config.sections.evaluation import EvaluatorSection
from vit_jax.config.sections.masked_patches import MaskedPatchesSection
from vit_jax.config.sections.model import ModelSection
from vit_jax.config.sections.optimization import (
    LossSection,
    MixupSection,
    OptimizerSection,
    ScheduleSection,
)
from vit_jax.config.sections.run import (
    CheckpointSection,
    InitSection,
    MeshSection,
    ProfileSection,
)
from vit_jax.config.settings import Rule, at_least, probability, section, setting

__all__ = [
    'CheckpointSection', 'Config', 'DataSection', 'EvaluatorSection', 'InitSection',
    'LossSection', 'MaskedPatchesSection', 'MeshSection', 'MixupSection',
    'ModelSection', 'OptimizerSection', 'PreprocessSection', 'ProfileSection',
    'ScheduleSection']


def _are_options(pairs: tuple) -> bool:
  return all(isinstance(pair, tuple) and len(pair) == 2
             and all(isinstance(x, str) and x for x in pair) for pair in pairs)


# What does not change the results of a run, nor what is compiled.
_FREE: dict[str, Any] = dict(resume=False, sweep=False, compiled=False)


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything that defines a run. Exactly one of the totals is positive."""
  seed: int = setting(
      0, 'Of the first parameters, the order of the examples and all that is random.',
      rule=Rule(lambda x: 0 <= x < 2**32, 'must be in [0, 2**32)'), compiled=False)
  total_steps: int = setting(
      0, 'Length of the run in steps.', rule=at_least(0), resume=False, compiled=False)
  total_epochs: float = setting(
      0.0, 'Length of the run in passes over the training split.', rule=at_least(0),
      resume=False, compiled=False)
  batch_size: int = setting(
      512, 'Examples per step over all devices of all processes.', rule=at_least(1),
      tuning='made_for')
  accum_steps: int = setting(
      1, 'Each batch is processed in this many parts whose gradients are averaged.',
      rule=at_least(1), tuning='tunable')
  ema_decay: float = setting(
      0.0, 'Decay of the exponential moving average of the parameters; 0: none.',
      rule=probability(one=False))
  ema_warmup: bool = setting(
      False, 'The decay is at most (1 + n) / (10 + n) after n updates: for short runs.')
  objective: str = setting(
      'classification', 'What is minimised and measured: a row of the table in '
      "vit_jax/objectives/__init__.py, or 'package.module:name' of one's own.")
  log_every: int = setting(
      50, 'Steps between two lines of measurements.', rule=at_least(1),
      per_process=True, **_FREE)
  eval_every: int = setting(
      0, 'Steps between evaluations; 0: only after the last step.', rule=at_least(0),
      **_FREE)
  eval_batch_size: int = setting(
      0, 'Global batch of the evaluations; 0: `batch_size`.', rule=at_least(0), **_FREE)
  keep_host_memory: bool = setting(
      False, 'On the CPU backend: keep freed memory in the process instead of '
      'returning it to the system after each step. Faster steps, higher peak memory.',
      per_process=True, **_FREE)
  xla_options: tuple = setting(
      (), '(name, value) pairs of texts for the compiler of the train and evaluation '
      'steps; options named after another backend than the one at hand are left out.',
      rule=Rule(_are_options, 'takes (name, value) pairs of texts such as '
                "(('xla_tpu_scoped_vmem_limit_kib', '65536'),)"),
      resume=False, sweep=False, tuning='tunable')
  tuned: str = setting(
      '', 'A file that `vit_jax plan --tune` wrote: its settings come before those of '
      "the command line. '': none.", per_process=True, **_FREE)
  model: ModelSection = section(ModelSection(), 'The model.')
  data: DataSection = section(DataSection(), 'Examples and their preprocessing.')
  optimizer: OptimizerSection = section(OptimizerSection(), 'The update rule.')
  schedule: ScheduleSection = section(
      ScheduleSection(), 'The learning rate over the run.', compiled=False)
  loss: LossSection = section(LossSection(), 'What is minimised.')
  masked_patches: MaskedPatchesSection = section(
      MaskedPatchesSection(), "What the objective 'masked_patches' predicts.")
  mixup: MixupSection = section(MixupSection(), 'MixUp and CutMix.')
  mesh: MeshSection = section(
      MeshSection(), 'How the devices share the work.', resume=False, sweep=False)
  checkpoint: CheckpointSection = section(
      CheckpointSection(), 'What is saved.', **_FREE)
  init: InitSection = section(
      InitSection(), 'Where the first parameters come from.', compiled=False)
  profile: ProfileSection = section(ProfileSection(), 'A profiler trace.', **_FREE)
  evaluators: tuple[EvaluatorSection, ...] = section(
      (), 'Further evaluations, during training and for `vit_jax eval`.', resume=False,
      compiled=False)
