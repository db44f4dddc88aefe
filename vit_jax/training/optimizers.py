"""The update rule: clip -> rule -> weight decay -> factor per path -> rate.

- Clipping is by the global norm of the gradients of trainable parameters.
- Weight decay is decoupled (https://arxiv.org/abs/1711.05101) for every rule:
  `weight_decay * parameter` joins the update behind the rule, so neither
  momentum nor second moments see it, and it is multiplied by the learning rate
  and by the path's factor. SGD with an L2 term in the gradient and momentum m
  decays 1 / (1 - m) times as much for the same number. 'adam' takes no weight
  decay at all: papers that say "Adam with weight decay 0.1" mean 'adamw', and
  0.1 as an L2 term would be a very different training.
- A factor of 0 freezes: no update, no optimizer state, no share in the clipped
  norm. A run with frozen parameters is the run of a model that has them as
  constants.
- All arithmetic is float32, whatever the dtype of parameters and moments.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import sections
from vit_jax.config.settings import check_values
from vit_jax.runtime import errors
from vit_jax.training import masks

# Adafactor keeps row and column statistics of the two largest dims if both
# have this size. 64 is the head size of most ViTs, so that all large matrices
# are factored, and more than any depth, so that the leading dim of scanned
# blocks is not: scanned and unrolled models get the same updates.
_MIN_FACTORED_DIM = 64

_Scalar = float | jax.Array
# A named stage of the chain; the names are the top level of the state.
_Stages = list[tuple[str, optax.GradientTransformation]]


def create(
  section: sections.OptimizerSection,
) -> optax.GradientTransformationExtraArgs:
  """Builds the optimizer, whose `update` takes the rates of the step by name.

  `update(grads, state, params, *, learning_rate, weight_decay=None)`: the section's
  learning rate is not read here, it is the peak of the schedule. A traced
  `weight_decay` replaces the section's if that is positive; at 0 nothing decays.

  The state is a dict: stage -> optax state. What a state keeps per parameter
  has the structure of the parameters, without the frozen ones. Path patterns
  meet the parameters in `init` and `update`, which raise `UserError` for
  patterns that match nothing.
  """
  check_values(section, 'optimizer.')
  if section.nesterov and not section.momentum:
    raise errors.UserError(
      'config.optimizer.nesterov is True, which needs a momentum above 0; set '
      'config.optimizer.momentum or leave nesterov out.')

  def resolve(
    tree: Any, learning_rate: _Scalar, weight_decay: _Scalar,
  ) -> tuple[optax.GradientTransformationExtraArgs, Any]:
    factors = masks.path_factors(tree, section.lr_multipliers)
    if not any(jax.tree.leaves(factors)):
      raise errors.UserError(
        'optimizer.lr_multipliers freezes every parameter; at least one must '
        f'be trainable. It is {section.lr_multipliers!r}.')
    stages = _stages(section, learning_rate, weight_decay, tree)
    return optax.named_chain(*stages), factors

  def init(params: optax.Params) -> optax.OptState:
    # The rates leave no trace in the state.
    chain, factors = resolve(params, 0.0, 0.0)
    return chain.init(_trainable(params, factors))

  def update(
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params | None = None,
    *,
    learning_rate: _Scalar,
    weight_decay: _Scalar | None = None,
    **unused: Any,
  ) -> tuple[optax.Updates, optax.OptState]:
    if weight_decay is None:
      weight_decay = section.weight_decay
    chain, factors = resolve(updates, learning_rate, weight_decay)
    if params is not None:
      params = _trainable(params, factors)
    scaled, state = chain.update(_trainable(updates, factors), state, params)
    return jax.tree.map(_apply_factor, factors, updates, scaled), state

  # The type that Optax has for it knows of no argument that must be given.
  return optax.GradientTransformationExtraArgs(init, cast(Any, update))


def _stages(
  section: sections.OptimizerSection,
  learning_rate: _Scalar,
  weight_decay: _Scalar,
  tree: Any,
) -> _Stages:
  """The chain for parameters of this structure."""
  stages = []
  if section.clip_norm:
    stages.append(('clip', optax.clip_by_global_norm(section.clip_norm)))
  stages.extend(RULES[section.name](section))
  if section.weight_decay:
    decayed = masks.path_mask(tree, section.weight_decay_mask)
    stages.append((
      'weight_decay', optax.add_decayed_weights(weight_decay, decayed)))
  stages.append(('learning_rate', optax.scale_by_learning_rate(learning_rate)))
  return stages


def _sgd(section: sections.OptimizerSection) -> _Stages:
  """trace = gradient + momentum * trace.

  In bfloat16 the factor is rounded as well: 0.9 is 0.8984375. That is what the
  original code does, if by accident; with 0.9 its five-step example misses the
  final parameters by 3e-4, with the rounded factor it meets them to 7e-6.
  """
  if not section.momentum:
    return []
  momentum = float(jnp.dtype(section.moment_dtype).type(section.momentum))
  trace = optax.trace(momentum, section.nesterov)
  return [('momentum', _stored_as(section.moment_dtype, 'trace', trace))]


def _adam(section: sections.OptimizerSection) -> _Stages:
  adam = optax.scale_by_adam(section.b1, section.b2, section.eps)
  return [('adam', _stored_as(section.moment_dtype, 'mu', adam))]


def _adafactor(section: sections.OptimizerSection) -> _Stages:
  """Adafactor with the changes of https://arxiv.org/abs/2106.04560 section 3.4.

  That is: first moment (half precision if asked), no scaling by the size of
  the parameters, and the decay of the second moment 1 - t^-0.8 capped at b2.
  Learning rates are on the scale of Adam's; unlike Adam's, the first moment is
  not corrected for its start at zero, so a warm-up is in order. The update clipping of
  https://arxiv.org/abs/1804.04235 gives way to the clipping of the gradients.
  """
  def decay_rate(step: jax.typing.ArrayLike, exponent: Any) -> jax.Array:
    count = jnp.asarray(step + 1, jnp.float32)
    return jnp.minimum(1.0 - count ** -exponent, section.b2)

  stages = [('adafactor', optax.scale_by_factored_rms(
    min_dim_size_to_factor=_MIN_FACTORED_DIM, decay_rate_fn=decay_rate))]
  if section.b1:
    average = optax.ema(section.b1, debias=False)
    stages.append(('momentum', _stored_as(section.moment_dtype, 'ema', average)))
  return stages


RULES = {'sgd': _sgd, 'adam': _adam, 'adamw': _adam, 'adafactor': _adafactor}


def _stored_as(
  dtype: str, field: str, inner: optax.GradientTransformation
) -> optax.GradientTransformation:
  """Keeps `field` of the state of `inner` in `dtype` between the updates.

  The update uses the value before rounding. The dtype options of optax multiply
  the stored value in its own dtype; whether that rounds once more depends on
  what the compiler fuses, and an average loses some of its weight because b1
  is rounded and 1 - b1 is not.
  """
  def cast(state: Any, to: jax.typing.DTypeLike) -> Any:
    return state._replace(**{field: optax.tree.cast(getattr(state, field), to)})

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    updates, state = inner.update(updates, cast(state, jnp.float32), params)
    return updates, cast(state, dtype)

  return optax.GradientTransformation(
    lambda params: cast(inner.init(params), dtype), update)


def _trainable(tree: Any, factors: Any) -> Any:
  """float32 leaves, without those whose factor is 0."""
  return jax.tree.map(
    lambda factor, leaf: leaf.astype(jnp.float32) if factor
    else optax.MaskedNode(), factors, tree)


def _apply_factor(factor: float, gradient: jax.Array, update: Any) -> jax.Array:
  if factor == 0.0:
    # Minus zero is the neutral element: it keeps a parameter of -0.0, too.
    return jnp.full_like(gradient, -0.0)
  return update if factor == 1.0 else update * factor
