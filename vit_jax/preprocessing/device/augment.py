"""The accelerator's part of the preprocessing, inside the jitted step.

Means the same as `vit_jax.preprocessing.host.ops`: both follow tf.image, whose pixels
and random crops the published checkpoints were trained on. RandAugment is the host's
alone; the jitter of colours and the erasing are done here alone, on augmented and
cached images alike. All randomness of a batch is one array of uniform draws, a row
per example: it does not depend on how the batch is sharded, and every further call of
jax.random would add 0.2 s to the compilation.
"""

import jax
import jax.numpy as jnp

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing.device import colour, erasing
from vit_jax.preprocessing.placement import random_settings, small_size

# Proposals per inception crop. TensorFlow makes up to 100; with the usual ranges a
# proposal is rejected so rarely that 10 do.
_PROPOSALS = 10
# Uniform draws per example: the flip's, then the crop's. Only where they are wanted,
# those of the jitter, the greyscale and the erasing follow.
_CROP_DRAWS = 2 * _PROPOSALS + 2
_GEOMETRY = 1 + _CROP_DRAWS
_COLOURS = _GEOMETRY + colour.JITTER_DRAWS + 1
_ALL = _COLOURS + erasing.DRAWS


def train_images(images, key, remaining: PreprocessSection, image_size: tuple,
                 value_range: tuple) -> jax.Array:
  """Augmented float32 images (B, *image_size, 3) of uint8 images (B, h, w, 3).

  Args:
    images: as the input pipeline yields them, the global batch.
    key: of this step.
    remaining: what the pipeline left to do.
    image_size: (height, width) of the model input.
    value_range: what 0 and 255 become.
  """
  noise_key = None
  if remaining.erase and remaining.erase_fill == 'noise':
    key, noise_key = jax.random.split(key)
  more = remaining.jitter or remaining.greyscale or remaining.erase
  draws = jax.random.uniform(key, (images.shape[0], _ALL if more else _GEOMETRY))
  images = _resized(images.astype(jnp.float32), remaining)
  images = _cropped(images, draws[:, 1:_GEOMETRY], remaining, image_size)
  if remaining.flip:
    flip = draws[:, 0] < .5
    images = jnp.where(flip[:, None, None, None], images[:, :, ::-1], images)
  images = _in_bounds(images, remaining)
  if remaining.jitter:
    images = colour.jitter(
        images, draws[:, _GEOMETRY:_COLOURS - 1], remaining.jitter,
        remaining.jitter_probability)
  if remaining.greyscale:
    images = colour.random_greyscale(
        images, draws[:, _COLOURS - 1], remaining.greyscale)
  images = _in_range(images, value_range)
  if remaining.erase:
    images = erasing.erase(
        images, draws[:, _COLOURS:], noise_key, remaining, value_range)
  return images


def eval_images(images, remaining: PreprocessSection, image_size: tuple,
                value_range: tuple) -> jax.Array:
  """Float32 images (B, *image_size, 3) of uint8 images; nothing is random."""
  if random_settings(remaining):
    raise ValueError(
        f'Evaluation cannot use {random_settings(remaining)}, expected nothing random; '
        'change config.data.eval.')
  images = _resized(images.astype(jnp.float32), remaining)
  images = _cropped(images, None, remaining, image_size)
  return _in_range(_in_bounds(images, remaining), value_range)


def _in_bounds(images, section):
  # Bicubic overshoots; the host's uint8 cannot.
  return images.clip(0, 255) if section.method == 'bicubic' else images


def _in_range(images, value_range):
  low, high = value_range
  return images * ((high - low) / 255) + low


def _resized(images, section):
  if section.resize:
    images = resize(images, section.resize, section.method, section.antialias)
  if section.resize_small:
    size = small_size(images.shape[1:3], section.resize_small)
    images = resize(images, size, section.method, section.antialias)
  return images


def _cropped(images, draws, section, image_size):
  height, width = image_size
  if section.crop == 'none':
    return resize(images, image_size, section.method, section.antialias)
  if section.crop == 'central':
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top:top + height, left:left + width]
  if section.crop == 'random':
    pad = (section.pad, section.pad)
    images = jnp.pad(images, ((0, 0), pad, pad, (0, 0)))
    return jax.vmap(lambda x, d: _random_crop(x, d, height, width))(
        images, draws[:, :2])
  windows = jax.vmap(
      lambda d: inception_window(d, images.shape[1:3], section))(draws)
  return _resize_windows(images, windows, image_size, section)


def _random_crop(image, draws, height, width):
  slack = jnp.array(image.shape[:2]) - jnp.array([height, width])
  top, left = jnp.floor(draws * (slack + 1)).astype(jnp.int32)
  return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, image.shape[2]))


def inception_window(draws, shape: tuple, section: PreprocessSection):
  """(top, left, height, width) as tf.image.sample_distorted_bounding_box draws it.

  `draws` are 2 * _PROPOSALS + 2 uniform numbers in [0, 1).

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


def resize(images, size: tuple, method: str, antialias: bool):
  """Images (B, h, w, c) at another size, with the pixels of tf.image.resize."""
  if tuple(images.shape[1:3]) == tuple(size):
    return images
  rows, columns = (
      resize_weights(0., float(have), have, want, method, antialias)
      for have, want in zip(images.shape[1:3], size, strict=True))
  images = jnp.einsum('BhwC,Hh->BHwC', images, rows, precision='highest')
  return jnp.einsum('BHwC,Ww->BHWC', images, columns, precision='highest')


def _resize_windows(images, windows, size, section):
  top, left, height, width = windows
  def weights(start, length, have, want):
    return jax.vmap(lambda s, n: resize_weights(
        s, n, have, want, section.method, section.antialias))(start, length)
  rows = weights(top, height, images.shape[1], size[0])
  columns = weights(left, width, images.shape[2], size[1])
  images = jnp.einsum('BhwC,BHh->BHwC', images, rows, precision='highest')
  return jnp.einsum('BHwC,BWw->BHWC', images, columns, precision='highest')


def resize_weights(start, length, have: int, want: int, method: str, antialias: bool):
  """(want, have) weights that resize pixels start..start+length of a line of `have`.

  Only pixels inside the window count, as if it had been cut out first. Matrices and
  not gathers: on a TPU a resize is then two small matrix products.
  """
  scale = length / want
  pixel = jnp.arange(have, dtype=jnp.float32)[None, :]
  out = jnp.arange(want, dtype=jnp.float32)[:, None]
  if method == 'area':
    # Overlap of [out, out + 1) * scale with each pixel.
    low, high = start + out * scale, start + (out + 1) * scale
    weight = jnp.clip(jnp.minimum(high, pixel + 1) - jnp.maximum(low, pixel), 0)
  else:
    stretch = jnp.maximum(scale, 1.) if antialias else 1.
    centre = start + (out + .5) * scale - .5
    kernel = {'bilinear': _triangle, 'bicubic': _keys}[method]
    weight = kernel(jnp.abs(pixel - centre) / stretch)
  inside = (pixel >= start) & (pixel < start + length)
  weight = jnp.where(inside, weight, 0.)
  return weight / weight.sum(1, keepdims=True)


def _triangle(x):
  return jnp.maximum(1 - x, 0)


def _keys(x):
  """Cubic convolution with a = -1/2 (Keys, 1981)."""
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.))
