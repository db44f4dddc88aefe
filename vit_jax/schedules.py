"""Learning rate as a function of the step.

Every schedule is a shape (constant, linear, cosine, rsqrt) times a linear
warm-up from zero, times an optional linear cool-down to zero. The warm-up is
the one of the original Vision Transformer code: the counter starts at 0, so
with warm-up the first update has learning rate 0 and step `warmup_steps` is
the first one at the peak.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vit_jax import errors, sections

# Settings that only some schedules read; all read the warm-up and cool-down.
READS = {
  'constant': (),
  'linear': ('end_learning_rate',),
  'cosine': ('end_learning_rate',),
  'rsqrt': ('timescale',),
}
_COMMON = ('name', 'warmup_steps', 'cooldown_steps')


def learning_rate(
  section: sections.ScheduleSection, peak: float, total_steps: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
  """Returns `step -> rate` for optax; `step` counts finished updates."""
  _check(section, peak, total_steps)
  warmup, cooldown = section.warmup_steps, section.cooldown_steps

  def rate(step: jax.typing.ArrayLike) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    elapsed = jnp.maximum(step - warmup, 0.0)
    value = _shape(section, peak, elapsed, max(1, total_steps - warmup))
    if warmup:
      value *= jnp.minimum(step / warmup, 1.0)
    if cooldown:
      value *= jnp.clip((total_steps - step) / cooldown, 0.0, 1.0)
    return value

  return rate


def _shape(
  section: sections.ScheduleSection,
  peak: float,
  elapsed: jax.Array,
  decay_steps: int,
) -> jax.Array:
  """Learning rate `elapsed` steps after the end of the warm-up."""
  end = section.end_learning_rate
  left = 1.0 - jnp.minimum(elapsed / decay_steps, 1.0)
  match section.name:
    case 'constant':
      return jnp.full_like(elapsed, peak)
    case 'linear':
      return end + (peak - end) * left
    case 'cosine':
      # Half a period, https://arxiv.org/abs/1608.03983 eq. 5 without restarts.
      return end + (peak - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * (1.0 - left)))
    case 'rsqrt':
      # https://arxiv.org/abs/2106.04560 section 3.5: reciprocal square root
      # with a timescale, here counted from the end of the warm-up, so that the
      # rate is continuous there whatever the warm-up. Meant to be used with a
      # cool-down, because it does not depend on the length of the run.
      return peak * jnp.sqrt(section.timescale / (section.timescale + elapsed))
  raise AssertionError(section.name)


def _check(
  section: sections.ScheduleSection, peak: float, total_steps: int
) -> None:
  name, warmup, cooldown = (
    section.name, section.warmup_steps, section.cooldown_steps)
  errors.check_choice('schedule.name', name, READS)
  unread = [
    f'config.schedule.{field.name}={getattr(section, field.name)!r}'
    for field in dataclasses.fields(section)
    if field.name not in _COMMON + READS[name]
    and getattr(section, field.name) != field.default]
  if unread:
    raise errors.UserError(
      f'config.schedule.name={name!r} does not read {", ".join(unread)}. It reads '
      f'{", ".join(_COMMON[1:] + READS[name])}; remove the setting or choose '
      'another schedule.')
  if total_steps < 1:
    raise errors.UserError(f'The run has {total_steps} steps; at least 1 is needed.')
  if min(warmup, cooldown) < 0 or warmup + cooldown > total_steps:
    raise errors.UserError(
      f'config.schedule.warmup_steps={warmup} and '
      f'config.schedule.cooldown_steps={cooldown} do not fit a run of '
      f'{total_steps} steps: both must be at least 0 and '
      'their sum at most the length of the run.')
  if not 0.0 <= peak < math.inf:
    raise errors.UserError(
      f'optimizer.learning_rate is {peak}; a finite number >= 0 is needed.')
  if not 0.0 <= section.end_learning_rate <= peak:
    raise errors.UserError(
      f'config.schedule.end_learning_rate is {section.end_learning_rate}; it must be '
      f'between 0 and optimizer.learning_rate={peak}.')
  if section.timescale <= 0:
    raise errors.UserError(
      f'config.schedule.timescale is {section.timescale}; it must be positive.')
