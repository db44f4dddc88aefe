"""Settings of the loss, the optimizer and its schedule."""

import dataclasses
import math
from typing import Any

from vit_jax.config.settings import (
    Rule,
    at_least,
    is_number,
    probability,
    setting,
)

_FINITE = Rule(lambda x: 0.0 <= x < math.inf, 'must be a finite number, at least 0')
_RATE = probability(one=False)


def _is_multipliers(pairs: Any) -> bool:
  return all(
      isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)
      and is_number(pair[1]) and 0.0 <= pair[1] < math.inf for pair in pairs)


@dataclasses.dataclass(frozen=True)
class OptimizerSection:
  """The update rule, applied to clipped gradients."""
  name: str = setting(
      'adam', "'sgd', 'adam', 'adamw' or 'adafactor'.",
      choices=('sgd', 'adam', 'adamw', 'adafactor'))
  # An argument of the compiled step.
  learning_rate: float = setting(
      1e-3, 'Peak learning rate; `schedule` scales it.', rule=_FINITE,
      compiled=False)
  clip_norm: float = setting(
      1.0, 'Global norm that gradients are clipped to; 0: no clipping.', rule=_FINITE)
  # An argument of the step too, but without any the optimizer is another one.
  weight_decay: float = setting(
      0.0, 'Decoupled: multiplied by the learning rate alone.', rule=_FINITE,
      read_by=('sgd', 'adamw', 'adafactor'), compiled=lambda decay: float(decay > 0))
  weight_decay_mask: str = setting(
      r'.*/kernel', 'Regular expression of the parameter paths that decay.',
      read_by=('sgd', 'adamw', 'adafactor'))
  momentum: float = setting(
      0.9, 'Share of the old momentum in the new; 0: none.', rule=_RATE,
      read_by=('sgd',))
  nesterov: bool = setting(False, 'With Nesterov\'s form of it.', read_by=('sgd',))
  b1: float = setting(
      0.9, "Decay of the first moment; 0: none in 'adafactor'.", rule=_RATE,
      read_by=('adam', 'adamw', 'adafactor'))
  b2: float = setting(
      0.999, "Decay of the second moment, in 'adafactor' its cap.", rule=_RATE,
      read_by=('adam', 'adamw', 'adafactor'))
  eps: float = setting(
      1e-8, "Joins the root of the second moment.",
      rule=Rule(lambda x: 0.0 < x < math.inf, 'must be a finite number above 0'),
      read_by=('adam', 'adamw'))
  moment_dtype: str = setting(
      'float32', 'Of the stored first moment.', choices=('float32', 'bfloat16'))
  lr_multipliers: tuple = setting(
      (), "('regex of parameter paths', factor) pairs, first match wins; 0 freezes.",
      rule=Rule(_is_multipliers, "takes ('regular expression', number >= 0) pairs"))


@dataclasses.dataclass(frozen=True)
class ScheduleSection:
  """Learning-rate factor over the steps of the run."""
  name: str = setting(
      'cosine', "'constant', 'linear', 'cosine', 'rsqrt' or 'piecewise'.",
      choices=('constant', 'linear', 'cosine', 'rsqrt', 'piecewise'))
  warmup_steps: int = setting(
      0, 'Linear rise from zero over the first steps.', rule=at_least(0))
  cooldown_steps: int = setting(
      0, 'Linear descent to zero over the last steps; 0: none.', rule=at_least(0))
  end_learning_rate: float = setting(
      0.0, "Learning rate at the end of 'linear' and 'cosine'.",
      read_by=('linear', 'cosine'))
  timescale: int = setting(
      10_000, 'Steps until the rate has fallen by sqrt(2).', rule=at_least(1),
      read_by=('rsqrt',))
  drop_at: tuple = setting(
      (0.3, 0.6, 0.9), 'Shares of the run after each of which the rate drops.',
      rule=Rule(lambda at: bool(at) and all(is_number(x) and 0 < x < 1 for x in at),
                'takes the shares of the run after which the rate drops, such as '
                '(0.3, 0.6, 0.9)'), read_by=('piecewise',))
  drop_factor: float = setting(
      0.1, 'Factor of the rate at each drop.',
      rule=Rule(lambda x: 0.0 < x <= 1.0, 'must be in (0, 1]'), read_by=('piecewise',))


@dataclasses.dataclass(frozen=True)
class LossSection:
  """What classification minimises."""
  name: str = setting(
      'softmax', "Cross-entropy: 'softmax' or 'sigmoid'.",
      choices=('softmax', 'sigmoid'))
  label_smoothing: float = setting(
      0.0, 'Share of the target spread over all classes.', rule=_RATE)


@dataclasses.dataclass(frozen=True)
class MixupSection:
  """How every batch is mixed: MixUp, CutMix, or one of them at random."""
  alpha: float = setting(
      0.0, "Beta(alpha, alpha) of MixUp's weight; 0: no MixUp.", rule=at_least(0))
  cutmix_alpha: float = setting(
      0.0, 'Beta(cutmix_alpha, cutmix_alpha) of the area that CutMix keeps; 0: no '
      'CutMix.', rule=at_least(0))
  cutmix_probability: float = setting(
      0.5, 'Where both are on: probability of CutMix instead of MixUp.',
      rule=probability())
