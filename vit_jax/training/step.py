"""The one training step: gradients (with accumulation), then the update.

`train`, planning, benchmarks and tests all use this function.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vit_jax.training import keys
from vit_jax.training.state import TrainState


@flax.struct.dataclass
class Rates:
  """What a step is told anew each time; float32 scalars that the host computes.

  Arguments and not constants, so that runs which differ in nothing else share one
  compiled program.
  """
  learning_rate: jax.typing.ArrayLike | jax.ShapeDtypeStruct
  weight_decay: jax.typing.ArrayLike | jax.ShapeDtypeStruct


# `(params, examples, key) -> (loss, metrics)`.
Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def make_train_step(
    optimizer: optax.GradientTransformation, prepare: Callable[[Any, jax.Array], Any],
    loss: Loss, *, accum_steps: int = 1, ema_decay: float = 0.0,
    ema_warmup: bool = False,
) -> Callable[[TrainState, Any, jax.typing.ArrayLike, Rates],
              tuple[TrainState, dict[str, jax.Array]]]:
  """The function that `jax.jit` compiles once per run.

  Args:
    optimizer: an `optax.GradientTransformation`; its update is handed the fields
      of `Rates` by name, which those that have rates of their own ignore.
    prepare: `(batch, key) -> examples`; what needs the whole batch at once, such
      as MixUp, or must not depend on accumulation, such as augmentation.
    loss: `(params, examples, key) -> (loss, metrics)`, both averages over
      the examples it is given.
    accum_steps: into how many parts the batch is split for the gradients.
    ema_decay: decay of the moving average, if the state has one.
    ema_warmup: at most (1 + n) / (10 + n) after n updates, so that the average soon
      forgets the first parameters.

  Returns:
    `step(state, batch, seed, rates) -> (state, metrics)`. `metrics` has `loss`,
    `grad_norm` (before clipping), `param_norm` (after the update) and the metrics of
    `loss`.
  """
  optimizer = optax.with_extra_args_support(optimizer)

  def step(state: TrainState, batch: Any, seed: jax.typing.ArrayLike,
           rates: Rates) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(keys.of_purpose(seed, 'steps'), state.step)
    prepare_key, model_key = jax.random.split(key)
    examples = prepare(batch, prepare_key)
    value, metrics, grads = accumulate(
        loss, state.params, examples, model_key, accum_steps)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params, learning_rate=rates.learning_rate,
        weight_decay=rates.weight_decay)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
      decay = ema_decay
      if ema_warmup:
        decay = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
      ema = optax.incremental_update(params, ema, 1 - decay)
    # The norm of the new parameters tells, before they are saved, that an update
    # has made them infinite although the loss was not.
    metrics = {'loss': value, 'grad_norm': optax.global_norm(grads),
               'param_norm': optax.global_norm(params), **metrics}
    return TrainState(state.step + 1, params, opt_state, ema), metrics
  return step


def accumulate(loss: Loss, params: Any, examples: Any, key: jax.Array,
               accum_steps: int) -> tuple[jax.Array, dict[str, jax.Array], Any]:
  """Loss, metrics and gradients averaged over `accum_steps` micro-batches."""
  grad_fn = jax.value_and_grad(loss, has_aux=True)
  if accum_steps == 1:
    (value, metrics), grads = grad_fn(params, examples, key)
    return value, metrics, grads

  def split(x: jax.Array) -> jax.Array:
    # (B, ...) -> (accum_steps, B / accum_steps, ...). Taking every
    # accum_steps-th example lets each device split the rows it holds.
    return x.reshape(-1, accum_steps, *x.shape[1:]).swapaxes(0, 1)

  def body(total: Any, part: Any) -> tuple[Any, None]:
    index, examples = part
    out = grad_fn(params, examples, jax.random.fold_in(key, index))
    return jax.tree.map(jnp.add, total, out), None

  parts = (jnp.arange(accum_steps), jax.tree.map(split, examples))
  first = jax.tree.map(lambda x: x[0], parts[1])
  shapes = jax.eval_shape(grad_fn, params, first, key)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  total, _ = jax.lax.scan(body, zeros, parts)
  (value, metrics), grads = jax.tree.map(lambda x: x / accum_steps, total)
  return value, metrics, grads
