"""MixUp (https://arxiv.org/abs/1710.09412): convex combinations of examples."""

import jax
import jax.numpy as jnp

from vit_jax import errors


def mixup(
  key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Mixes every example with its predecessor in the (B, ...) batch.

  One weight w ~ Beta(alpha, alpha) serves the whole batch. It is mirrored to
  w >= 1/2, so that the example in place keeps its main label; mirroring only
  renames the two partners, because the order in the batch is random. Rolling
  by one moves one example per device to its neighbour when the batch is
  sharded, where a random permutation would move all of them.
  """
  if alpha < 0.0:
    raise errors.UserError(
      f'config.mixup.alpha is {alpha}; it must be positive, or 0 for no MixUp.')
  if not alpha:
    return images, targets
  for name, array in (('images', images), ('targets', targets)):
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(
        f'{name} have dtype {array.dtype}, which cannot hold a mixture; '
        'convert them to floating point first.')
  weight = jax.random.beta(key, alpha, alpha, dtype=jnp.float32)
  weight = jnp.maximum(weight, 1.0 - weight)

  def mix(array: jax.Array) -> jax.Array:
    own, other = weight.astype(array.dtype), (1.0 - weight).astype(array.dtype)
    return own * array + other * jnp.roll(array, 1, axis=0)

  return mix(images), mix(targets)
