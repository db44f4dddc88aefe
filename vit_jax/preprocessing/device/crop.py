"""Crops on the accelerator, to `data.image_size`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing.device.resize import Windows, resize, resize_windows

# Proposals per inception crop. TensorFlow makes up to 100; with the usual ranges a
# proposal is rejected so rarely that 10 do.
_PROPOSALS = 10
# Uniform draws per example.
DRAWS = 2 * _PROPOSALS + 2


def crop(images: jax.Array, draws: jax.Array | None, section: PreprocessSection,
         image_size: Sequence[int]) -> jax.Array:
  """Images (B, *image_size, 3), cut out of those (B, h, w, 3) or resized.

  Args:
    images: floats.
    draws: (B, DRAWS), uniform in [0, 1); None for crops that are not random.
    section: the `crop*` fields and `pad` count, and how to resize.
    image_size: (height, width).
  """
  height, width = image_size
  if section.crop == 'none':
    return resize(images, image_size, section.method, section.antialias)
  if section.crop == 'central':
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top:top + height, left:left + width]
  if draws is None:
    raise ValueError(f'crop={section.crop!r} needs draws.')
  if section.crop == 'random':
    pad = (section.pad, section.pad)
    images = jnp.pad(images, ((0, 0), pad, pad, (0, 0)))
    return jax.vmap(lambda x, d: _random_crop(x, d, height, width))(
        images, draws[:, :2])
  shape = images.shape[1], images.shape[2]
  windows = jax.vmap(lambda d: inception_window(d, shape, section))(draws)
  return resize_windows(images, windows, image_size, section)


def _random_crop(image: jax.Array, draws: jax.Array, height: int,
                 width: int) -> jax.Array:
  slack = jnp.array(image.shape[:2]) - jnp.array([height, width])
  top, left = jnp.floor(draws * (slack + 1)).astype(jnp.int32)
  return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, image.shape[2]))


def inception_window(draws: jax.Array, shape: tuple[int, int],
                     section: PreprocessSection) -> Windows:
  """(top, left, height, width) as tf.image.sample_distorted_bounding_box draws it.

  `draws` are DRAWS uniform numbers in [0, 1), `shape` is (h, w) of the image.

  The aspect ratio is uniform, and given it the height is: smaller crops are likelier
  than with torchvision, which draws the area uniformly.
  """
  h, w = shape
  least, most = (share * h * w for share in section.crop_area)
  ratio_draw, height_draw, (top_draw, left_draw) = jnp.split(
      draws, [_PROPOSALS, 2 * _PROPOSALS])
  low, high = section.crop_ratio
  ratio = low + ratio_draw * (high - low)
  shortest = jnp.round(jnp.sqrt(least / ratio))
  # The tallest window of this ratio that is neither too large nor too wide.
  tallest = jnp.minimum(jnp.round(jnp.sqrt(most / ratio)), jnp.floor((w + .5) / ratio))
  tallest = jnp.minimum(tallest, h)
  shortest = jnp.minimum(shortest, tallest)
  height = shortest + jnp.floor(height_draw * (tallest - shortest + 1))
  height = jnp.minimum(height, tallest)
  # Rounding may carry a proposal just outside the range of areas.
  height = height + (height * jnp.round(height * ratio) < least)
  height = height - (height * jnp.round(height * ratio) > most)
  width = jnp.round(height * ratio)
  area = height * width
  fits = ((area >= least) & (area <= most) & (height <= h) & (width <= w)
          & (height > 0) & (width > 0))
  first = jnp.argmax(fits)
  height = jnp.where(fits.any(), height[first], h)
  width = jnp.where(fits.any(), width[first], w)
  # TensorFlow's offsets stop one short of the last possible one.
  top = jnp.floor(top_draw * jnp.maximum(h - height, 1))
  left = jnp.floor(left_draw * jnp.maximum(w - width, 1))
  return top, left, height, width
