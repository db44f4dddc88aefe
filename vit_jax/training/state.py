"""The training state: all that a resume needs besides the configuration."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
  # Number of updates done; also the position in the data and in all randomness.
  step: jax.Array
  params: Any
  opt_state: Any
  # Moving average of `params`, or None.
  ema: Any = None

  @property
  def eval_params(self) -> Any:
    """The parameters that evaluation, prediction and export use."""
    return self.params if self.ema is None else self.ema


def create(params: Any, optimizer: optax.GradientTransformation, *,
           ema: bool) -> TrainState:
  """The state before the first step."""
  return TrainState(
      step=jnp.zeros((), jnp.int32), params=params,
      opt_state=optimizer.init(params),
      # A copy, because both are donated to the step.
      ema=jax.tree.map(jnp.copy, params) if ema else None)
