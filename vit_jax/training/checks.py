"""Whether a run can be what its settings say, as far as no data are needed.

`vit_jax.config.check` looks at the settings alone; here they meet the code that they
name: model, objective, optimizer, schedule, evaluators.
"""

import dataclasses

from vit_jax import config as config_lib
from vit_jax import evaluators, objectives
from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config.sections import Config, EvaluatorSection
from vit_jax.models import variants
from vit_jax.objectives.objective import Direction
from vit_jax.runtime.errors import UserError
from vit_jax.training import optimizers, schedules


@dataclasses.dataclass(frozen=True)
class Metric:
  """A result that can choose the best checkpoint."""
  better: Direction
  # Measured at every n-th evaluation only.
  every: int


def check_run(config: Config) -> Config:
  """`config` with sizes completed, wherever one enters.

  Raises:
    UserError: for settings that no data set could make right.
  """
  config = check_measurements(config_lib.check(config))
  variants.from_section(config.model, 1, 'cpu')
  objectives.find(config.objective).check(config)
  schedules.learning_rate(
      config.schedule, config.optimizer.learning_rate,
      # The length of a run given in epochs depends on the data.
      config.total_steps or 2**31 - 1)
  optimizers.create(config.optimizer)
  return config


def check_measurements(config: Config) -> Config:
  """`config` if its objective, evaluators and best metric suit each other.

  All that `check_run` asks of settings that are yet to be completed, as those are which
  a sweep varies.

  Raises:
    UserError: if they don't.
  """
  _check_labels(config)
  for section in config.evaluators:
    _check_evaluator(config, section)
  _check_best_metric(config)
  return config


def metrics_of(config: Config) -> dict[str, Metric]:
  """{'<evaluator>/<metric>': what is known of it} of all that a run measures."""
  found = {}
  for section in evaluator_settings.of_run(config):
    kind = evaluators.find(
        section.kind, f'{evaluator_settings.key_of(config, section)}.kind')
    for name, better in kind.metrics(config, section).items():
      found[f'{section.name}/{name}'] = Metric(better, section.every)
  return found


def _check_labels(config: Config) -> None:
  known = objectives.find(config.objective).labels
  many = config.data.max_labels > 0
  if 'none' not in known and ('set' if many else 'class') not in known:
    raise UserError(
        f'config.data.max_labels is {config.data.max_labels}, but '
        f'config.objective={config.objective!r} learns from '
        f'{"one label" if many else "a set of labels"} per image. Set it '
        f'{"to 0" if many else "above 0"}, or choose another objective.')


def _check_evaluator(config: Config, section: EvaluatorSection) -> None:
  key = evaluator_settings.key_of(config, section)
  kind = evaluators.find(section.kind, f'{key}.kind')
  data = evaluator_settings.data_section(config, section)
  if kind.on_features and data.max_labels:
    raise UserError(
        f'config.{key} of kind {section.kind!r} has max_labels={data.max_labels}; '
        "it needs data with one label per image. Use kind 'classify', or give it "
        'other data.')


def _check_best_metric(config: Config) -> None:
  metric, every = config.checkpoint.best_metric, config.checkpoint.every
  if not metric:
    return
  known = metrics_of(config)
  if metric not in known:
    raise UserError(
        f'config.checkpoint.best_metric is {metric!r}; this run measures '
        f'{", ".join(known) or "nothing, as it has neither val nor test split"}.')
  nth = known[metric].every
  if config.eval_every < 1 or every % (config.eval_every * nth):
    times = f' x {nth} of the evaluator' if nth > 1 else ''
    raise UserError(
        f'config.checkpoint.best_metric needs an evaluation at every checkpoint: '
        f'config.checkpoint.every {every} must be a multiple of config.eval_every, '
        f'which is {config.eval_every}{times}.')
