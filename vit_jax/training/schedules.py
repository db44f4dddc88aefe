"""Learning rate as a function of the step, computed by the host.

Every schedule is a shape (constant, linear, cosine, rsqrt, piecewise) times a
linear warm-up from zero, times an optional linear cool-down to zero. The warm-up
is the one of the original Vision Transformer code: the counter starts at 0, so
with warm-up the first update has learning rate 0 and step `warmup_steps` is
the first one at the peak.
"""

import math
from collections.abc import Callable

from vit_jax.config import sections
from vit_jax.config.settings import check_values
from vit_jax.runtime import errors


def learning_rate(
  section: sections.ScheduleSection, peak: float, total_steps: int
) -> Callable[[int], float]:
  """Returns `step -> rate`; `step` counts finished updates."""
  _check(section, peak, total_steps)
  warmup, cooldown = section.warmup_steps, section.cooldown_steps

  def rate(step: int) -> float:
    value = _shape(section, peak, int(step), total_steps)
    if warmup:
      value *= min(step / warmup, 1.0)
    if cooldown:
      value *= min(max((total_steps - step) / cooldown, 0.0), 1.0)
    return value

  return rate


def _shape(
  section: sections.ScheduleSection, peak: float, step: int, total_steps: int
) -> float:
  """Learning rate without the factors of warm-up and cool-down."""
  end = section.end_learning_rate
  elapsed = max(step - section.warmup_steps, 0)
  left = 1.0 - min(elapsed / max(1, total_steps - section.warmup_steps), 1.0)
  match section.name:
    case 'constant':
      return peak
    case 'linear':
      return end + (peak - end) * left
    case 'cosine':
      # Half a period, https://arxiv.org/abs/1608.03983 eq. 5 without restarts.
      return end + (peak - end) * 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))
    case 'rsqrt':
      # https://arxiv.org/abs/2106.04560 section 3.5: reciprocal square root
      # with a timescale, here counted from the end of the warm-up, so that the
      # rate is continuous there whatever the warm-up. Meant to be used with a
      # cool-down, because it does not depend on the length of the run.
      return peak * math.sqrt(section.timescale / (section.timescale + elapsed))
    case 'piecewise':
      # Drops count from the start of the run, as in the protocols of VTAB
      # (arXiv 1910.04867) and BiT (arXiv 1912.11370), whose steps are 30, 60 and
      # 90% or 40, 60 and 80% of the run. The step at a boundary still has the rate
      # before it, as with tf.train.piecewise_constant.
      drops = sum(step > round(at * total_steps) for at in section.drop_at)
      return peak * section.drop_factor ** drops
  raise AssertionError(section.name)


def _check(
  section: sections.ScheduleSection, peak: float, total_steps: int
) -> None:
  check_values(section, 'schedule.')
  warmup, cooldown = section.warmup_steps, section.cooldown_steps
  if total_steps < 1:
    raise errors.UserError(f'The run has {total_steps} steps; at least 1 is needed.')
  if warmup + cooldown > total_steps:
    raise errors.UserError(
      f'config.schedule.warmup_steps={warmup} and '
      f'config.schedule.cooldown_steps={cooldown} do not fit a run of '
      f'{total_steps} steps: both must be at least 0 and '
      'their sum at most the length of the run. For a shorter run, shorten them as '
      f'well, such as --config.schedule.warmup_steps={total_steps // 10}.')
  if not 0.0 <= peak < math.inf:
    raise errors.UserError(
      f'optimizer.learning_rate is {peak}; a finite number >= 0 is needed.')
  if not 0.0 <= section.end_learning_rate <= peak:
    raise errors.UserError(
      f'config.schedule.end_learning_rate is {section.end_learning_rate}; it must be '
      f'between 0 and optimizer.learning_rate={peak}.')
