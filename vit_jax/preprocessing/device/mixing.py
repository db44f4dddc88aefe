"""MixUp and CutMix: every example of a batch mixed with another one.

On the accelerator, where the whole batch is. Targets are (B, C) weights of classes,
one-hot or not, and are mixed as the images are.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vit_jax.config.sections import MixupSection
from vit_jax.config.settings import check_values
from vit_jax.runtime import errors


def mix(key: jax.Array, images: jax.Array, targets: jax.Array,
        section: MixupSection) -> tuple[jax.Array, jax.Array]:
  """The (B, h, w, c) images and (B, C) targets, mixed as the section says.

  With both, one draw per batch decides between them, as in timm. Without CutMix,
  this is `mixup`.
  """
  check_values(section, 'mixup.')
  if not section.cutmix_alpha:
    return mixup(key, images, targets, section.alpha)
  beta_key, draw_key = jax.random.split(key)
  switch, *place = jax.random.uniform(draw_key, (3,))
  cut = switch < section.cutmix_probability if section.alpha else jnp.array(True)
  # One draw serves both: a second one would have to be compiled, too.
  alpha = jnp.where(cut, section.cutmix_alpha, section.alpha)
  weight = jax.random.beta(beta_key, alpha, alpha, dtype=jnp.float32)
  outside = ~box(images.shape[1:3], 1.0 - weight, place)
  mirrored = jnp.maximum(weight, 1.0 - weight)  # See `mixup`.
  return _mixed(images, targets, jnp.where(cut, outside, mirrored)[:, :, None],
                jnp.where(cut, outside.mean(dtype=jnp.float32), mirrored))


def mixup(key: jax.Array, images: jax.Array, targets: jax.Array,
          alpha: float) -> tuple[jax.Array, jax.Array]:
  """MixUp (https://arxiv.org/abs/1710.09412): convex combinations of examples.

  Every example is mixed with its predecessor in the (B, ...) batch. One weight
  w ~ Beta(alpha, alpha) serves the whole batch. It is mirrored to w >= 1/2, so that
  the example in place keeps its main label; mirroring only renames the two partners,
  because the order in the batch is random. Rolling by one moves one example per
  device to its neighbour when the batch is sharded, where a random permutation would
  move all of them.
  """
  if alpha < 0.0:
    raise errors.UserError(
      f'config.mixup.alpha is {alpha}; it must be positive, or 0 for no MixUp.')
  if not alpha:
    return images, targets
  weight = jax.random.beta(key, alpha, alpha, dtype=jnp.float32)
  weight = jnp.maximum(weight, 1.0 - weight)
  return _mixed(images, targets, weight, weight)


def box(size: Sequence[int], area: jax.Array, place: Sequence[jax.Array]) -> jax.Array:
  """(h, w) mask of CutMix's rectangle (https://arxiv.org/abs/1905.04899, appendix A).

  Args:
    size: (h, w).
    area: the share of the image that the rectangle has before it is cut off at the
      border; its aspect ratio is the image's.
    place: two draws in [0, 1) for the (y, x) of its middle, any pixel of the image.
  """
  def inside(length: int, draw: jax.Array) -> jax.Array:
    half = jnp.floor(length * jnp.sqrt(area)).astype(jnp.int32) // 2
    middle = jnp.floor(draw * length).astype(jnp.int32)
    pixel = jnp.arange(length)
    return (pixel >= middle - half) & (pixel < middle + half)
  rows, columns = (inside(*pair) for pair in zip(size, place, strict=True))
  return rows[:, None] & columns[None, :]


def _mixed(images: jax.Array, targets: jax.Array, image_weight: jax.Array,
           target_weight: jax.Array) -> tuple[jax.Array, jax.Array]:
  """own * weight + predecessor * (1 - weight), for both arrays."""
  for name, array in (('images', images), ('targets', targets)):
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(
        f'{name} have dtype {array.dtype}, which cannot hold a mixture; '
        'convert them to floating point first.')

  def mixed(array: jax.Array, weight: jax.Array) -> jax.Array:
    own, other = weight.astype(array.dtype), (1.0 - weight).astype(array.dtype)
    return own * array + other * jnp.roll(array, 1, axis=0)
  return mixed(images, image_weight), mixed(targets, target_weight)
