"""RandAugment (https://arxiv.org/abs/1909.13719) as TensorFlow ops on the host.

The operations, their uniform choice and what a magnitude means are those of the
TensorFlow code for EfficientNet, which big_vision and AugReg
(https://arxiv.org/abs/2106.10270) used: 16 operations, each applied whenever it is
drawn, after the crop and the flip. Magnitude 10 is the top of the scale they were
made for, AugReg goes from 0 to 20, the paper to 30. As there,

- Solarize has the threshold 25.6 * magnitude modulo 256, because the original keeps
  it in 8 bits: magnitudes 10 and 20 invert the whole image, 15 its brighter half
  (https://github.com/google-research/big_vision/issues/110);
- Posterize keeps 4 bits at magnitude 10, 6 at 15 and all 8 at 20, here also beyond;
- magnitude 0 does change images: factors are 0.1, Posterize keeps 1 bit.

Two things differ. TranslateX, TranslateY and Cutout are in pixels there; here they
are the same at 224x224 and keep their share of images of other sizes. Contrast moves
away from the mean grey of the image, as in Pillow; the original meant this but takes
height * width / 256, which is 196 at 224x224
(https://github.com/tensorflow/tpu/issues/825): `randaugment_grey=196` does the same.

It runs on the host, where one image after the other takes just the one branch that
was drawn; on an accelerator every image of a batch would pay for all 16, with a
gather per pixel for the geometric ones, which a TPU is bad at. All that is random is
drawn from the seed of the example's position, so batches depend on neither threads
nor hosts. `keras.layers.RandAugment` cannot do this: its seeds are a state of the
layer, its 11 operations have other magnitudes, and it computes all of them each time.
"""

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing.host import Tensor, colour

# `(image, sign, place) -> image`, see `operations`.
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]

# Fills what a geometric operation or Cutout leaves empty.
_FILL = 128
# The size that the original's numbers of pixels were chosen for.
_SIZE = 224
# Uniform draws per layer: the operation, its sign, (y, x) of Cutout.
_DRAWS = 4
# Keeps these draws apart from the crop's, which are made from the seed itself.
_PURPOSE = 1


def make(tf: ModuleType, section: PreprocessSection,
         size: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
  """`(image, seed) -> image`: the flip, then the operations drawn for this image.

  Args:
    tf: the TensorFlow module.
    section: `flip` and the `randaugment_*` fields count.
    size: (height, width) of the images, which are uint8 (*size, 3).

  The seed is int64 (2,), of the example at its position in the run.
  """
  layers = section.randaugment_layers
  branches = _branches(tf, section, size)

  def augment(image: Tensor, seed: Tensor) -> Tensor:
    purpose = tf.random.experimental.stateless_fold_in(
        seed, tf.constant(_PURPOSE, tf.int64))
    draws = tf.random.stateless_uniform((1 + _DRAWS * layers,), purpose)
    if section.flip:
      # Not image[:, ::-1], which takes longer than most of the operations.
      image = tf.cond(draws[0] < .5, lambda: tf.reverse(image, [1]), lambda: image)
    for draw in tf.unstack(tf.reshape(draws[1:], (layers, _DRAWS))):
      # A float32 below one may be one after this product.
      chosen = tf.minimum(tf.cast(draw[0] * len(branches), tf.int32), len(branches) - 1)
      sign = tf.where(draw[1] < .5, -1., 1.)
      # tf.switch_case would become a graph in which every image passes the nodes of
      # all branches, dead or not; this calls one function.
      image, = tf.raw_ops.StatelessCase(
          branch_index=chosen, input=[image, sign, draw[2:]], Tout=[tf.uint8],
          branches=branches, output_shapes=[(*size, 3)])
      image = tf.ensure_shape(image, (*size, 3))
    return image
  return augment


def _branches(tf: ModuleType, section: PreprocessSection,
              size: Sequence[int]) -> list[Callable[..., Tensor]]:
  """The operations as functions that a graph can call."""
  signature = [tf.TensorSpec((*size, 3), tf.uint8), tf.TensorSpec((), tf.float32),
               tf.TensorSpec((2,), tf.float32)]
  table = operations(tf, section.randaugment_magnitude, size, section.randaugment_grey)
  return [
      tf.function(f, input_signature=signature, autograph=False).get_concrete_function()
      for f in table.values()]


def operations(tf: ModuleType, magnitude: float, size: Sequence[int],
               grey: int = -1) -> dict[str, Operation]:
  """Name -> `(image, sign, place) -> image`, in the order in which they are drawn.

  Args:
    tf: the TensorFlow module.
    magnitude: 0 to 30.
    size: (height, width) of the images, uint8 (*size, 3).
    grey: what Contrast moves away from; -1: the mean of the image.

  `sign` is 1 or -1, `place` are two uniform numbers in [0, 1) for Cutout.
  """
  height, width = size
  level = magnitude / 10
  factor = 1.8 * level + .1
  degrees, slope, shift = 30 * level, .3 * level, 100 * level / _SIZE
  bits = min(max(int(4 * level), 1), 8)
  threshold = int(256 * level) % 256
  # Two times this is the side of Cutout's square.
  half = int(40 * level * min(size) / _SIZE)

  def values(function: Callable[..., Tensor], *args: Any) -> Operation:
    return lambda image, sign, place: function(tf, image, *args)

  def moved(matrix_of: Callable[[Tensor], tuple]) -> Operation:
    return lambda image, sign, place: _transform(tf, image, matrix_of(sign))

  return {
      'AutoContrast': values(colour.autocontrast),
      'Equalize': values(colour.equalize),
      'Invert': values(colour.invert),
      'Rotate': moved(lambda sign: _rotation(tf, sign * math.radians(degrees), size)),
      'Posterize': values(colour.posterize, bits),
      'Solarize': values(colour.solarize, threshold),
      'Color': values(colour.saturation, factor),
      'Contrast': values(colour.contrast, factor, grey),
      'Brightness': values(colour.brightness, factor),
      'Sharpness': values(colour.sharpness, factor),
      'ShearX': moved(lambda sign: (1, sign * slope, 0, 0, 1, 0)),
      'ShearY': moved(lambda sign: (1, 0, 0, sign * slope, 1, 0)),
      'TranslateX': lambda image, sign, place: _shift(
          tf, image, sign, (0, round(shift * width))),
      'TranslateY': lambda image, sign, place: _shift(
          tf, image, sign, (round(shift * height), 0)),
      'Cutout': lambda image, sign, place: _cutout(tf, image, half, place),
      'SolarizeAdd': values(colour.solarize_add, int(110 * level)),
  }


def _rotation(tf: ModuleType, radians: Tensor, size: Sequence[int]) -> tuple:
  """Matrix of a counter-clockwise turn about the middle of the image."""
  y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
  cos, sin = tf.cos(radians), tf.sin(radians)
  return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def _transform(tf: ModuleType, image: Tensor, matrix: tuple) -> Tensor:
  """The pixel nearest to (a x + b y + c, d x + e y + f) comes to (x, y)."""
  entries = [tf.cast(entry, tf.float32) for entry in (*matrix, 0., 0.)]
  return tf.raw_ops.ImageProjectiveTransformV3(
      images=image[None], transforms=tf.stack(entries)[None],
      output_shape=tuple(image.shape[:2]), fill_value=float(_FILL),
      interpolation='NEAREST', fill_mode='CONSTANT')[0]


def _shift(tf: ModuleType, image: Tensor, sign: Tensor,
           pixels: tuple[int, int]) -> Tensor:
  """Moved by this many (y, x) pixels to the top and left, or back for sign -1."""
  height, width, _ = image.shape
  down, right = pixels
  padded = tf.pad(image, ((down, down), (right, right), (0, 0)),
                  constant_values=tf.constant(_FILL, tf.uint8))
  begin = tf.where(sign > 0, 2, 0) * (down, right, 0)
  return tf.slice(padded, begin, (height, width, 3))


def _cutout(tf: ModuleType, image: Tensor, half: int, place: Tensor) -> Tensor:
  """A square of grey about a pixel of the image, cut off at the border.

  https://arxiv.org/abs/1708.04552, which has zeros for grey.
  """
  def near(size: int, draw: Tensor) -> Tensor:
    offset = tf.range(size) - tf.cast(tf.floor(draw * size), tf.int32)
    return tf.cast((offset >= -half) & (offset < half), tf.uint8)
  height, width, _ = image.shape
  # Lines and products in uint8, see `colour`.
  square = near(height, place[0])[:, None] * tf.repeat(near(width, place[1]), 3)
  lines = tf.reshape(image, (height, width * 3))
  return tf.reshape(lines + square * (_FILL - lines), image.shape)
