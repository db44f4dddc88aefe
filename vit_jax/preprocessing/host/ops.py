"""The host's part of the preprocessing as TensorFlow ops; see `placement`.

`vit_jax.preprocessing.device.augment` does the same on the accelerator, with the same
meaning.
"""

import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing.host import Tensor, decode, randaugment

# `(bytes of an image, seed, EXIF orientation = 1) -> uint8 (height, width, 3)`.
Prepare = Callable[..., Tensor]


def make_prepare(tf: ModuleType, section: PreprocessSection, size: Sequence[int],
                 pixel_factor: int = 1) -> Prepare:
  """`(bytes, seed, orientation) -> uint8 (*size, 3)`, see `decode.Portable`.

  No bytes make a black image.

  Args:
    tf: the TensorFlow module.
    section: what to do. A flip is done only where RandAugment follows it, else it
      is left to the accelerator, as the other operations on colours and the erasing.
    size: (height, width) of the result.
    pixel_factor: of the decoded pixels, before anything else is done to them.
  """
  height, width = size
  augmentations = []
  if section.randaugment_layers:
    augmentations.append(randaugment.make(tf, section, size))

  def made(data: Tensor, seed: Tensor, orientation: Tensor | int) -> Tensor:
    image = _decoded(tf, section, size, data, seed, orientation, pixel_factor)
    for augment in augmentations:
      image = augment(image, seed)
    return image

  def prepare(data: Tensor, seed: Tensor, orientation: Tensor | int = 1) -> Tensor:
    image = tf.cond(
        tf.strings.length(data) == 0,
        lambda: tf.zeros((height, width, 3), tf.uint8),
        lambda: made(data, seed, orientation))
    image.set_shape((height, width, 3))
    return image
  return prepare


def crops_while_decoding(section: PreprocessSection) -> bool:
  """Whether the crop is the first thing done, so that the rest stays undecoded."""
  return not section.resize and not section.resize_small and (
      section.crop == 'inception' or section.crop == 'random' and not section.pad)


def reason(error: Any) -> str:
  """Why a TensorFlow op failed, without the names of graph nodes."""
  return re.sub(r'\{\{.*?\}\}|\[Op:.*', '', error.message).strip()[:300]


def _decoded(tf: ModuleType, section: PreprocessSection, size: Sequence[int],
             data: Tensor, seed: Tensor, orientation: Tensor | int, pixel_factor: int
             ) -> Tensor:
  """The resized and cropped image."""
  if crops_while_decoding(section):
    image = decode.window_in_graph(
        tf, data, lambda shape: _window(tf, section, size, shape, seed), orientation)
    image = decode.multiplied_in_graph(tf, image, pixel_factor)
  else:
    image = decode.in_graph(tf, data, orientation)
    image = decode.multiplied_in_graph(tf, image, pixel_factor)
    image = tf.cast(image, tf.float32)
    if section.resize:
      image = _resize(tf, section, image, section.resize)
    if section.resize_small:
      image = _resize(tf, section, image, _small(tf, image, section.resize_small))
    if section.crop == 'random' and section.pad:
      pad = (section.pad, section.pad)
      image = tf.pad(image, (pad, pad, (0, 0)))
    if section.crop != 'none':
      top, left, height, width = tf.unstack(
          _window(tf, section, size, tf.shape(image)[:2], seed))
      image = image[top:top + height, left:left + width]
  if section.crop in ('none', 'inception'):
    image = _resize(tf, section, image, size)
  # Rounding: a mere cast would darken images by half a level on average.
  image = tf.saturate_cast(tf.round(tf.cast(image, tf.float32)), tf.uint8)
  return tf.ensure_shape(image, (*size, 3))


def _resize(tf: ModuleType, section: PreprocessSection, image: Tensor,
            size: Tensor | Sequence[int]) -> Tensor:
  return tf.image.resize(
      image, size, method=section.method, antialias=section.antialias)


def _small(tf: ModuleType, image: Tensor, shorter: int) -> Tensor:
  sides = tf.cast(tf.shape(image)[:2], tf.float64)
  # float64 and rounding half to even, as in `placement.small_size`.
  return tf.cast(tf.round(sides * shorter / tf.reduce_min(sides)), tf.int32)


def _window(tf: ModuleType, section: PreprocessSection, size: Sequence[int],
            shape: Tensor, seed: Tensor) -> Tensor:
  """(top, left, height, width) of the crop from an image of this (h, w)."""
  if section.crop == 'inception':
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape, [3]], 0), tf.zeros((1, 0, 4)), seed,
        min_object_covered=0.0, area_range=section.crop_area,
        aspect_ratio_range=section.crop_ratio, max_attempts=100,
        use_image_if_no_bounding_boxes=True)
    return tf.concat([begin[:2], extent[:2]], 0)
  check = tf.debugging.assert_greater_equal(
      shape, size, message='the image is smaller than the crop (height, width)')
  with tf.control_dependencies([check] if check is not None else []):
    slack = shape - size
  if section.crop == 'central':
    offset = slack // 2
  else:
    # One draw per side: a maximum per element needs the full-range form.
    draw = tf.random.stateless_uniform((2,), seed, dtype=tf.float32)
    offset = tf.minimum(
        tf.cast(draw * tf.cast(slack + 1, tf.float32), tf.int32), slack)
  return tf.concat([offset, size], 0)
