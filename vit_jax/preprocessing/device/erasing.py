"""Random erasing (https://arxiv.org/abs/1708.04896) on the accelerator.

After the pixels have their range, so that zero is the middle of [-1, 1]. A rectangle
is a comparison of the pixels' indices, with no shape that depends on what was drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing.device.resize import Windows

# Proposals per image, as in torchvision and timm; one is rejected when it does not
# fit, which of the default ranges one in thirty does not.
_PROPOSALS = 10
# Uniform draws per example: whether, the proposals' areas and ratios, the place.
DRAWS = 2 * _PROPOSALS + 3


def erase(images: jax.Array, draws: jax.Array, key: jax.Array,
          section: PreprocessSection, value_range: tuple[float, float]) -> jax.Array:
  """Images with a rectangle erased in each that is drawn.

  Args:
    images: (B, h, w, c) floats in `value_range`.
    draws: (B, DRAWS), uniform in [0, 1).
    key: of the noise; it counts for `erase_fill='noise'` alone.
    section: the `erase*` fields count.
    value_range: (low, high); the noise is uniform in it, per pixel and channel, as in
      the paper.
  """
  _, h, w, _ = images.shape
  top, left, height, width = jax.vmap(lambda d: rectangle(d, (h, w), section))(
      draws[:, 1:])
  erased = draws[:, 0] < section.erase

  def inside(start: jax.Array, length: jax.Array, size: int) -> jax.Array:
    pixel = jnp.arange(size)[None, :]
    return (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
  mask = (inside(top, height, h)[:, :, None] & inside(left, width, w)[:, None, :]
          & erased[:, None, None])
  if section.erase_fill == 'zero':
    return jnp.where(mask[..., None], 0., images)
  low, high = value_range
  noise = jax.random.uniform(key, images.shape, images.dtype, low, high)
  return jnp.where(mask[..., None], noise, images)


def rectangle(draws: jax.Array, shape: tuple[int, int],
              section: PreprocessSection) -> Windows:
  """(top, left, height, width) from 2 * _PROPOSALS + 2 draws; no height: nothing.

  The area is uniform and the ratio is so in its logarithm, which makes tall and wide
  equally likely. That is how torchvision and timm do it, where recipes with random
  erasing come from; the paper draws the ratio itself uniformly.
  """
  h, w = shape
  area_draw, ratio_draw, (top_draw, left_draw) = jnp.split(
      draws, [_PROPOSALS, 2 * _PROPOSALS])
  smallest, largest = (share * h * w for share in section.erase_area)
  area = smallest + area_draw * (largest - smallest)
  low, high = np.log(section.erase_ratio)
  ratio = jnp.exp(low + ratio_draw * (high - low))
  height = jnp.round(jnp.sqrt(area * ratio))
  width = jnp.round(jnp.sqrt(area / ratio))
  fits = (height < h) & (width < w)
  # Not an index into the array: a sum of one entry and zeros.
  first = fits & (jnp.cumsum(fits) == 1)
  height, width = (height * first).sum(), (width * first).sum()
  top = jnp.floor(top_draw * (h - height + 1))
  left = jnp.floor(left_draw * (w - width + 1))
  return top, left, height, width
