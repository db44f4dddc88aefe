"""The pixel values of an image changed, as TensorFlow ops on the host.

uint8 (h, w, 3) of static shape to the same. Each is what the function or class of
Pillow named in its first line does. Where Pillow rounds, `blend` and what goes into
it truncates, as in the code that RandAugment became known by: with a factor f, results
are within |f - 1| levels of 255, rounded up.

Most work on lines (h, w * 3): TensorFlow's vector code stops where it has to
broadcast along an inner dimension of 3, and `tf.where` has none for uint8.
"""

from collections.abc import Callable
from types import ModuleType

import numpy as np

from vit_jax.preprocessing.host import Tensor

# Columns: the luma of tf.image.rgb_to_grayscale, once per channel that it goes to; it
# maps 0..255 to 0..255.5 and truncates.
_LUMA = np.tile(np.array([[0.2989], [0.587], [0.114]], np.float32), 3) * (255.5 / 255)


def autocontrast(tf: ModuleType, image: Tensor) -> Tensor:
  """ImageOps.autocontrast: each channel stretched to 0..255."""
  low = tf.cast(_per_channel(tf, tf.reduce_min, image), tf.float32)
  high = tf.cast(_per_channel(tf, tf.reduce_max, image), tf.float32)
  even = high == low
  scale = tf.where(even, 1., 255. / tf.maximum(high - low, 1.))
  offset = tf.where(even, 0., low * scale)
  width = image.shape[1]
  stretched = (tf.cast(_lines(tf, image), tf.float32) * tf.tile(scale, [width])
               - tf.tile(offset, [width]))
  return _image(tf, stretched, image)


def equalize(tf: ModuleType, image: Tensor) -> Tensor:
  """ImageOps.equalize: a flat histogram of each channel."""
  # Each channel its own range of bins: one histogram and one look-up for all three.
  height, width, _ = image.shape
  ranges = np.tile(np.arange(0, 768, 256, dtype=np.int32), width)
  bins = tf.cast(_lines(tf, image), tf.int32) + ranges
  counts = tf.reshape(
      tf.math.bincount(tf.reshape(bins, [-1]), minlength=768, maxlength=768), (3, 256))
  below = tf.cumsum(counts, 1, exclusive=True)
  # The brightest level that occurs needs no room above it.
  brightest = tf.cast(_per_channel(tf, tf.reduce_max, image), tf.int32)
  room = height * width - tf.gather(counts, brightest, batch_dims=1)
  step = room[:, None] // 255
  levels = (below + step // 2) // tf.maximum(step, 1)
  levels = tf.where(step > 0, tf.minimum(levels, 255), np.arange(256, dtype=np.int32))
  table = tf.reshape(tf.cast(levels, tf.uint8), [-1])
  return tf.reshape(tf.gather(table, bins), image.shape)


def invert(tf: ModuleType, image: Tensor) -> Tensor:
  """ImageOps.invert."""
  del tf
  return 255 - image


def posterize(tf: ModuleType, image: Tensor, bits: int) -> Tensor:
  """ImageOps.posterize: the highest bits (1 to 8) kept, the others zero."""
  return tf.bitwise.bitwise_and(image, tf.constant(256 - 2**(8 - bits), tf.uint8))


def solarize(tf: ModuleType, image: Tensor, threshold: int) -> Tensor:
  """ImageOps.solarize: values from the threshold (0 to 255) on inverted."""
  return tf.bitwise.bitwise_xor(image, 255 * tf.cast(image >= threshold, tf.uint8))


def solarize_add(tf: ModuleType, image: Tensor, addition: int) -> Tensor:
  """Values below 128 raised; in Pillow this would be `point` with a table."""
  raised = tf.minimum(image, 255 - addition)  # uint8 has no room above 255.
  raise_by = raised + addition - image
  return image + raise_by * tf.cast(image < 128, tf.uint8)


def saturation(tf: ModuleType, image: Tensor, factor: float) -> Tensor:
  """ImageEnhance.Color: away from greyscale (0) through the image (1) and beyond."""
  return blend(tf, _greyscale(tf, image), image, factor)


def contrast(tf: ModuleType, image: Tensor, factor: float, grey: int = -1) -> Tensor:
  """ImageEnhance.Contrast: away from a grey area, the mean of the image or `grey`."""
  if grey < 0:
    mean = tf.reduce_mean(_greyscale(tf, image))
    return blend(tf, tf.floor(mean + .5), image, factor)
  return blend(tf, float(grey), image, factor)


def brightness(tf: ModuleType, image: Tensor, factor: float) -> Tensor:
  """ImageEnhance.Brightness: away from black."""
  return blend(tf, 0., image, factor)


def sharpness(tf: ModuleType, image: Tensor, factor: float) -> Tensor:
  """ImageEnhance.Sharpness: away from the image smoothed by a 3x3 kernel.

  The kernel is one everywhere but five in its middle; pixels at the border are kept.
  """
  lines = _lines(tf, image)
  values = tf.cast(lines, tf.float32)
  rows = values[:-2] + values[1:-1] + values[2:]
  box = rows[:, :-6] + rows[:, 3:-3] + rows[:, 6:]
  middle = values[1:-1, 3:-3]
  # The half keeps whole numbers of thirteenths on the right side of the truncation.
  smooth = tf.floor((box + 4. * middle + .5) * (1 / 13))
  inside = blend(tf, smooth, middle, factor)
  inside = tf.concat([lines[1:-1, :3], inside, lines[1:-1, -3:]], 1)
  return tf.reshape(tf.concat([lines[:1], inside, lines[-1:]], 0), image.shape)


def blend(tf: ModuleType, degenerate: Tensor | float, image: Tensor,
          factor: float) -> Tensor:
  """degenerate + factor * (image - degenerate), clipped and truncated."""
  mixed = degenerate + factor * (tf.cast(image, tf.float32) - degenerate)
  return tf.cast(tf.clip_by_value(mixed, 0., 255.), tf.uint8)


def _greyscale(tf: ModuleType, image: Tensor) -> Tensor:
  """float32 (h, w, 3), whole numbers, the same in the three channels."""
  pixels = tf.reshape(tf.cast(image, tf.float32), (-1, 3))
  return tf.reshape(tf.floor(tf.matmul(pixels, _LUMA)), image.shape)


def _per_channel(tf: ModuleType, reduce: Callable[[Tensor, int], Tensor],
                 image: Tensor) -> Tensor:
  """(3,) extremes; in two steps, of which the long one is along the first dimension."""
  return reduce(tf.reshape(reduce(_lines(tf, image), 0), (-1, 3)), 0)


def _lines(tf: ModuleType, image: Tensor) -> Tensor:
  height, width, channels = image.shape
  return tf.reshape(image, (height, width * channels))


def _image(tf: ModuleType, lines: Tensor, like: Tensor) -> Tensor:
  return tf.reshape(tf.cast(tf.clip_by_value(lines, 0., 255.), tf.uint8), like.shape)
