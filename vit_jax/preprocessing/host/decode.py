"""Encoded images to pixels; what a file is follows from its first bytes, never
from its name.

Pillow decodes what it decodes without loss, TensorFlow decodes JPEG: its decoder
makes other pixels than Pillow's (about one level in 255), and the published
checkpoints were trained on TensorFlow's.
"""

import functools
import io
from collections.abc import Callable
from types import ModuleType

import numpy as np
from PIL import Image, UnidentifiedImageError

from vit_jax.preprocessing.host import Tensor
from vit_jax.runtime.errors import DataError

_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
# Formats of Pillow whose files are taken for images by their names.
_FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TIFF',
            'WEBP')
# Of these formats, but with pixels that are no colours of 8 bits.
_OTHER_PIXELS = ('.pfm',)
_END_OF_JPEG = b'\xff\xd9'
# Modes of Pillow that `convert` maps to RGB as TensorFlow's PNG decoder does.
_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')


@functools.cache
def endings() -> tuple[str, ...]:
  """Endings of the names of image files that this Pillow can open, sorted."""
  known = Image.registered_extensions()
  return tuple(sorted(
      ending for ending, kind in known.items()
      if kind in _FORMATS and kind in Image.OPEN and ending not in _OTHER_PIXELS))


def has_image_ending(name: str) -> bool:
  return name.lower().endswith(endings())


def is_jpeg(data: bytes) -> bool:
  return data.startswith(_JPEG)


def is_whole_jpeg(data: bytes) -> bool:
  """Whether a JPEG ends as one should.

  Decoding a crop stops below it, so a file that is cut off lower down would pass
  unnoticed; files without this mark are decoded as a whole, which fails if so.
  """
  return data.startswith(_JPEG) and data.endswith(_END_OF_JPEG)


def with_pillow(data: bytes) -> np.ndarray | None:
  """uint8 (h, w, 3), or None for what TensorFlow is to decode."""
  if is_jpeg(data):
    return None
  try:
    image = Image.open(io.BytesIO(data))
    if image.mode not in _MODES:
      if data.startswith(_PNG):
        return None  # Such as 16 bits per channel.
      raise DataError(
          f'{image.format} image with pixels of kind {image.mode!r}, expected one of '
          f'{", ".join(_MODES)}; store it as PNG or JPEG.')
    return np.asarray(image.convert('RGB'))
  except (OSError, SyntaxError, ValueError, EOFError,
          Image.DecompressionBombError) as e:
    # Pillow's message for an unknown format names a Python object instead.
    reason = 'unknown format' if isinstance(e, UnidentifiedImageError) else e
    raise DataError(
        f'not a readable image ({reason}; it begins with {data[:8]!r}). Expected JPEG, '
        'PNG, WebP, AVIF, TIFF, BMP or GIF; replace or remove it.') from e


def multiplied(image: np.ndarray, factor: int) -> np.ndarray:
  """uint8 pixels times an integer; DataError where that is more than 255."""
  if factor == 1:
    return image
  most = int(image.max(initial=0))
  if most * factor > 255:
    raise DataError(f'the pixel value {most} {too_bright(factor)}')
  return (image.astype(np.int32) * factor).astype(np.uint8)


def too_bright(factor: int) -> str:
  return (f'times config.data.pixel_factor={factor} is more than 255; set the factor '
          "that brings the data set's largest pixel value to 255.")


def portable(data: bytes) -> bytes:
  """The same image as JPEG or PNG, the two formats that the graph below decodes."""
  if data.startswith((_JPEG, _PNG)):
    return data
  image = with_pillow(data)
  assert image is not None  # It would be a JPEG or a PNG.
  png = io.BytesIO()
  Image.fromarray(image).save(png, 'PNG', compress_level=0)
  return png.getvalue()


def in_graph(tf: ModuleType, data: Tensor) -> Tensor:
  """uint8 (h, w, 3) of a whole JPEG or PNG, as a TensorFlow op."""
  return tf.cond(
      tf.strings.substr(data, 0, 3) == _JPEG,
      # Default options on purpose: see the head of this file.
      lambda: tf.io.decode_jpeg(data, channels=3),
      lambda: tf.io.decode_png(data, channels=3))


def multiplied_in_graph(tf: ModuleType, image: Tensor, factor: int) -> Tensor:
  """As `multiplied`, as TensorFlow ops."""
  if factor == 1:
    return image
  product = tf.cast(image, tf.int32) * factor
  check = tf.debugging.assert_less_equal(
      tf.reduce_max(product), 255, message='a pixel value ' + too_bright(factor))
  with tf.control_dependencies([check] if check is not None else []):
    return tf.cast(product, tf.uint8)


def window_in_graph(tf: ModuleType, data: Tensor,
                    window_of: Callable[[Tensor], Tensor]) -> Tensor:
  """The window of an image; a whole JPEG is decoded only there.

  Args:
    tf: the TensorFlow module.
    data: a JPEG or PNG.
    window_of: (h, w) of the image -> (top, left, height, width), int32.
  """
  def decode_window() -> Tensor:
    shape = tf.io.extract_jpeg_shape(data)
    return tf.io.decode_and_crop_jpeg(data, window_of(shape[:2]), channels=3)

  def decode_all() -> Tensor:
    image = in_graph(tf, data)
    top, left, height, width = tf.unstack(window_of(tf.shape(image)[:2]))
    return image[top:top + height, left:left + width]

  whole_jpeg = tf.logical_and(
      tf.strings.substr(data, 0, 3) == _JPEG,
      tf.strings.substr(data, -2, 2) == _END_OF_JPEG)
  return tf.cond(whole_jpeg, decode_window, decode_all)
