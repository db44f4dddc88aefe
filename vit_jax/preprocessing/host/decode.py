"""Encoded images to pixels; what a file is follows from its first bytes, never
from its name.

Pillow decodes what it decodes without loss, TensorFlow decodes JPEG: its decoder
makes other pixels than Pillow's (about one level in 255), and the published
checkpoints were trained on TensorFlow's.

Decoders give the stored pixels. With `as_shown` they become those that a viewer shows:
turned as EXIF says, transparent ones put on white.
"""

import functools
import io
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

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
# Without any of these a file has no orientation, as EXIF or XMP; looking for them is
# quicker than parsing, for which Pillow decodes a whole PNG.
_HAS_ORIENTATION = (b'Exif\0\0', b'eXIf', b'Raw profile type exif', b'Orientation')
# The EXIF orientations, 1 to 8, that are stored transposed, and those that are
# mirrored left to right or top to bottom after that has been undone.
_TRANSPOSED, _MIRRORED, _FLIPPED = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


class Portable(NamedTuple):
  """An image for the graph: a JPEG or a PNG, and how it is to be turned."""
  data: bytes
  orientation: int = 1


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


def with_pillow(data: bytes, *, as_shown: bool = False) -> np.ndarray | None:
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
    return np.asarray(_shown(image) if as_shown else image.convert('RGB'))
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


def portable(data: bytes, *, as_shown: bool = False) -> Portable:
  """The same image as JPEG or PNG, the two formats that the graph below decodes."""
  is_png = data.startswith(_PNG)
  if is_jpeg(data) or is_png:
    stored = Portable(data, _orientation_of_bytes(data) if as_shown else 1)
    if not (as_shown and is_png and _is_transparent(data)):
      return stored
    image = with_pillow(data, as_shown=True)
    if image is None:
      return stored
  else:
    image = with_pillow(data, as_shown=as_shown)
    assert image is not None  # It would be a JPEG or a PNG.
  png = io.BytesIO()
  Image.fromarray(image).save(png, 'PNG', compress_level=0)
  return Portable(png.getvalue())


def _shown(image: Image.Image) -> np.ndarray:
  """The pixels as a viewer shows them."""
  image.load()  # Only then it is known what a TIFF still needs.
  orientation = _orientation(image)
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  pixels = np.asarray(image.convert('RGB'))
  if orientation in _TRANSPOSED:
    pixels = pixels.swapaxes(0, 1)
  if orientation in _MIRRORED:
    pixels = pixels[:, ::-1]
  if orientation in _FLIPPED:
    pixels = pixels[::-1]
  return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
  """As EXIF or XMP says, 1 for none."""
  try:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # Pillow raises many kinds; the pixels may be intact.
    return 1
  return found if found in range(1, 9) else 1


def _orientation_of_bytes(data: bytes) -> int:
  if not any(mark in data for mark in _HAS_ORIENTATION):
    return 1
  try:
    with Image.open(io.BytesIO(data)) as image:
      return _orientation(image)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
    return 1  # Whoever decodes it tells of the damage.


def _is_transparent(png: bytes) -> bool:
  try:
    with Image.open(io.BytesIO(png)) as image:
      return image.has_transparency_data
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
    return False  # Whoever decodes it tells of the damage.


def in_graph(tf: ModuleType, data: Tensor, orientation: Tensor | int = 1) -> Tensor:
  """uint8 (h, w, 3) of a whole JPEG or PNG, turned, as a TensorFlow op."""
  image = tf.cond(
      tf.strings.substr(data, 0, 3) == _JPEG,
      # Default options on purpose: see the head of this file.
      lambda: tf.io.decode_jpeg(data, channels=3),
      lambda: tf.io.decode_png(data, channels=3))
  return tf.cond(tf.equal(orientation, 1), lambda: image,
                 lambda: _upright_in_graph(tf, image, orientation))


def _upright_in_graph(tf: ModuleType, image: Tensor, orientation: Tensor | int
                      ) -> Tensor:
  def is_one_of(orientations: tuple[int, ...]) -> Tensor:
    return tf.reduce_any(tf.equal(orientation, orientations))
  for orientations, turn in (
      (_TRANSPOSED, lambda x: tf.transpose(x, (1, 0, 2))),
      (_MIRRORED, lambda x: tf.reverse(x, [1])),
      (_FLIPPED, lambda x: tf.reverse(x, [0]))):
    image = tf.cond(is_one_of(orientations), functools.partial(turn, image),
                    functools.partial(tf.identity, image))
  return image


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
                    window_of: Callable[[Tensor], Tensor],
                    orientation: Tensor | int = 1) -> Tensor:
  """The window of an image; a whole JPEG that stands upright is decoded only there.

  Args:
    tf: the TensorFlow module.
    data: a JPEG or PNG.
    window_of: (h, w) of the turned image -> (top, left, height, width), int32.
    orientation: as EXIF has it.
  """
  def decode_window() -> Tensor:
    shape = tf.io.extract_jpeg_shape(data)
    return tf.io.decode_and_crop_jpeg(data, window_of(shape[:2]), channels=3)

  def decode_all() -> Tensor:
    image = in_graph(tf, data, orientation)
    top, left, height, width = tf.unstack(window_of(tf.shape(image)[:2]))
    return image[top:top + height, left:left + width]

  upright_jpeg = tf.logical_and(
      tf.strings.substr(data, 0, 3) == _JPEG, tf.equal(orientation, 1))
  whole_jpeg = tf.logical_and(
      upright_jpeg, tf.strings.substr(data, -2, 2) == _END_OF_JPEG)
  return tf.cond(whole_jpeg, decode_window, decode_all)
