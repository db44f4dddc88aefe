"""Whether the settings of a run can be meant, before anything heavy is imported."""

from vit_jax.config import evaluators as evaluator_settings
from vit_jax.config import values
from vit_jax.config.sections import Config
from vit_jax.config.settings import all_settings, check_values, complete_size
from vit_jax.runtime.errors import UserError


def check(config: Config) -> Config:
  """`config` with sizes completed, or a UserError that names the wrong key."""
  config = complete_sizes(config)
  check_values(config)
  if (config.total_steps > 0) == (config.total_epochs > 0):
    raise UserError(
        f'config.total_steps is {config.total_steps} and config.total_epochs is '
        f'{config.total_epochs}; set exactly one of them above 0, the other to 0.')
  if config.batch_size % config.accum_steps:
    raise UserError(
        f'config.batch_size {config.batch_size} does not divide into '
        f'config.accum_steps {config.accum_steps} equal parts.')
  if config.ema_warmup and not config.ema_decay:
    raise UserError(
        'config.ema_warmup is True, but config.ema_decay=0.0 means no average. Set the '
        'decay, such as 0.9999, or leave the warm-up out.')
  evaluator_settings.check_evaluators(config)
  return config


def complete_sizes(config: Config) -> Config:
  """`config` with every size as (height, width)."""
  for key, known in all_settings(Config).items():
    if known.size:
      config = values.replace(
          config, key, complete_size(key, values.get(config, key)))
  return config
