"""Colour jitter and random greyscale on the accelerator.

The operations are those of torchvision's ColorJitter and Pillow's ImageEnhance, as
contrastive learning uses them (https://arxiv.org/abs/2002.05709 appendix A): factors
drawn uniformly around one, a hue shifted on its circle, in an order drawn for each
image. They are here and not on the host so that data sets which are decoded once can
have them too; all are sums and products of the values of a pixel, and one mean over
the image, which cost an accelerator next to nothing.

Images are float32 (B, h, w, 3) with values 0 to 255, draws uniform in [0, 1).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Uniform draws per example of `jitter`: whether, four strengths, four for the order.
JITTER_DRAWS = 9
# Luma of ITU-R BT.601, as Pillow and torchvision have it.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


def jitter(images: jax.Array, draws: jax.Array, strengths: Sequence[float],
           probability: float) -> jax.Array:
  """Images with jittered colours, each with this probability.

  Args:
    images: as above.
    draws: (B, JITTER_DRAWS).
    strengths: of brightness, contrast, saturation and hue. The first three are
      factors between max(0, 1 - strength) and 1 + strength, the last is a shift by up
      to this part of the circle to either side.
    probability: of an image to be jittered at all.
  """
  low = jnp.array([max(0., 1. - s) for s in strengths[:_HUE]] + [-strengths[_HUE]])
  high = jnp.array([1. + s for s in strengths[:_HUE]] + [strengths[_HUE]])
  amounts = low + draws[:, 1:5] * (high - low)
  order = jnp.argsort(draws[:, 5:], axis=1)

  def one_of_four(images: jax.Array, operation: jax.Array) -> tuple[jax.Array, None]:
    # `operation` (B,) says which comes now. All images are computed each way: where
    # images take different branches, an accelerator does the same.
    amount = jnp.take_along_axis(amounts, operation[:, None], axis=1)[:, 0]
    return jnp.where(_each(operation == _HUE), shift_hue(images, amount),
                     _scaled(images, operation, amount)), None

  jittered, _ = jax.lax.scan(one_of_four, images, order.T)
  return jnp.where(_each(draws[:, 0] < probability), jittered, images)


def random_greyscale(images: jax.Array, draws: jax.Array,
                     probability: float) -> jax.Array:
  """Each image greyscale with this probability; draws (B,)."""
  return jnp.where(_each(draws < probability), greyscale(images), images)


def greyscale(images: jax.Array) -> jax.Array:
  """(B, h, w, 1) luma."""
  return (images * _LUMA).sum(-1, keepdims=True)


def _scaled(images: jax.Array, operation: jax.Array, factor: jax.Array) -> jax.Array:
  """Brightness, contrast or saturation: away from black, the mean grey, the grey."""
  grey = greyscale(images)
  base = jnp.where(_each(operation == _CONTRAST), grey.mean((1, 2), keepdims=True),
                   jnp.where(_each(operation == _SATURATION), grey, 0.))
  factor = _each(factor)
  return (factor * images + (1. - factor) * base).clip(0., 255.)


def shift_hue(images: jax.Array, shift: jax.Array) -> jax.Array:
  """Images with hue + shift (B,) in HSV, in parts of the circle.

  Without a case for each sixth of the circle: the channels of a hue are one function,
  1 - max(0, min(k, 4 - k, 1)) of its distance k in sixths, taken at 5, 3 and 1.
  """
  red, green, blue = images[..., 0], images[..., 1], images[..., 2]
  value = images.max(-1)
  chroma = value - images.min(-1)
  # Grey has no hue; any will do.
  divisor = jnp.where(chroma > 0, chroma, 1.)
  hue = jnp.where(value == red, (green - blue) / divisor,
                  jnp.where(value == green, (blue - red) / divisor + 2.,
                            (red - green) / divisor + 4.))
  hue = hue + 6. * shift[:, None, None]
  def channel(n: float) -> jax.Array:
    k = jnp.mod(hue + n, 6.)
    return value - chroma * jnp.minimum(k, 4. - k).clip(0., 1.)
  return jnp.stack([channel(5.), channel(3.), channel(1.)], axis=-1)


def _each(values: jax.Array) -> jax.Array:
  """(B,) values as (B, 1, 1, 1), to go with images."""
  return values[:, None, None, None]
