"""Settings of the data, and of what happens to an image."""

import dataclasses

from vit_jax.config.settings import (
    Rule,
    at_least,
    is_number,
    probability,
    section,
    setting,
    span,
)

# The paper's largest magnitude of RandAugment.
_MAX_MAGNITUDE = 30


def _is_jitter(strengths: tuple) -> bool:
  # A hue shifted by one half of the circle comes to the same place either way.
  return not strengths or (
      len(strengths) == 4 and all(is_number(s) and s >= 0 for s in strengths)
      and strengths[3] <= 0.5)


@dataclasses.dataclass(frozen=True)
class PreprocessSection:
  """From a decoded image to `data.image_size`, in the order of the settings."""
  resize: tuple = setting(
      (), 'Resize to this (height, width) first, aspect ratio not kept; (): skip.',
      size=True)
  resize_small: int = setting(
      0, 'Resize the shorter side to this many pixels first; 0: skip.',
      rule=at_least(0))
  crop: str = setting(
      'none', "'none' (resize to `data.image_size`, aspect ratio not kept), "
      "'inception', 'random' or 'central'.",
      choices=('none', 'inception', 'random', 'central'))
  pad: int = setting(
      0, "'random' only: zero pixels added on each side before the crop.",
      rule=at_least(0))
  crop_area: tuple = setting(
      (0.05, 1.0), "'inception' only: range of the crop's share of the area.",
      rule=span(1))
  crop_ratio: tuple = setting(
      (0.75, 4 / 3), "'inception' only: range of the crop's aspect ratio (width / "
      'height).', rule=span())
  flip: bool = setting(False, 'Mirror left to right with probability one half.')
  randaugment_layers: int = setting(
      0, 'RandAugment: operations per image, 0 for none. Such splits are always '
      'streamed.', rule=at_least(0))
  randaugment_magnitude: float = setting(
      10.0, f'Strength of its operations, from 0 to {_MAX_MAGNITUDE}.',
      rule=Rule(lambda x: 0 <= x <= _MAX_MAGNITUDE,
                f'must be from 0 to {_MAX_MAGNITUDE}'))
  randaugment_grey: int = setting(
      -1, "The grey that its Contrast moves away from: -1 for the image's mean, 196 as "
      'in AugReg, see vit_jax/preprocessing/host/randaugment.py.',
      rule=Rule(lambda x: -1 <= x <= 255, 'must be from -1 to 255'))
  jitter: tuple = setting(
      (), 'Colour jitter: strengths of brightness, contrast, saturation and hue, in '
      'random order; (): none.', rule=Rule(
          _is_jitter, 'takes the strengths of (brightness, contrast, saturation, hue), '
          'at least 0 and for the hue at most 0.5, or () for none'))
  jitter_probability: float = setting(
      1.0, 'Probability of the jitter.', rule=probability())
  greyscale: float = setting(
      0.0, 'Probability of greyscale, after the jitter.', rule=probability())
  erase: float = setting(0.0, 'Probability of random erasing.', rule=probability())
  erase_area: tuple = setting(
      (0.02, 0.4), "Range of the erased rectangle's share of the area.", rule=span(1))
  erase_ratio: tuple = setting(
      (0.3, 1 / 0.3), 'Range of its aspect ratio (height / width).', rule=span())
  erase_fill: str = setting(
      'zero', "What it is filled with: 'zero' or 'noise'.", choices=('zero', 'noise'))
  method: str = setting(
      'bilinear', "Of resizing: 'bilinear', 'bicubic' or 'area'.",
      choices=('bilinear', 'bicubic', 'area'))
  antialias: bool = setting(False, 'Antialiasing when shrinking.')


@dataclasses.dataclass(frozen=True)
class DataSection:
  """Which examples, and how they become model inputs."""
  name: str = setting(
      'digits', "A TFDS name ('cifar10', 'sun397/tfds:4.*.*'), 'digits', or 'folder'.",
      compiled=False)
  dir: str = setting(
      '', "TFDS data directory ('': the TFDS default), or the image folder's root.",
      compiled=False)
  train_split: str = setting(
      'train', 'Of the training, in TFDS slicing syntax.', compiled=False)
  val_split: str = setting(
      '', "Evaluated as 'val'; '' for no such split.", compiled=False)
  test_split: str = setting(
      'test', "Evaluated as 'test'; '' for no such split.", compiled=False)
  max_examples: int = setting(
      0, 'Only the first so many examples of every split; 0: all.', rule=at_least(0),
      compiled=False)
  image_size: tuple = setting(
      (224, 224), "(height, width) of the model's input.", size=True,
      rule=Rule(bool, 'takes (height, width)'), tuning='made_for')
  image_key: str = setting('image', 'The feature with the image.', compiled=False)
  label_key: str = setting(
      'label', 'The feature with the label: a class, or a sequence of classes.',
      compiled=False)
  label_rule: str = setting(
      '', "Computes the label from other features instead: '' (don't), a row of the "
      "table in vit_jax/data/labels.py such as 'clevr_count', or "
      "'package.module:name'.",
      compiled=False)
  max_labels: int = setting(
      0, 'Above 0, an image has a set of up to this many classes; 0: exactly one.',
      rule=at_least(0))
  pixel_factor: int = setting(
      1, 'Factor of stored pixel values that do not fill 0..255; dSprites has 0 and 1: '
      '255.', rule=at_least(1), compiled=False)
  as_shown: str = setting(
      'auto', "Images as viewers show them, turned as their EXIF orientation says and "
      "with what is transparent on white: 'always', 'never' (the stored pixels, of "
      "JPEG, PNG and so on), or 'auto': of image folders and of what is predicted, not "
      'of TFDS data.', choices=('auto', 'always', 'never'), compiled=False)
  value_range: tuple = setting(
      (-1.0, 1.0), 'Pixel values 0..255 are mapped linearly onto this range.')
  train: PreprocessSection = section(
      PreprocessSection(), 'What happens to training images.', compiled=False)
  eval: PreprocessSection = section(
      PreprocessSection(), 'What happens to all other images; nothing random.',
      compiled=False)
  cache: str = setting(
      'auto', "Decode once and keep in memory: 'auto' (when it fits), 'always', "
      "'never'.", choices=('auto', 'always', 'never'), compiled=False)
  cache_limit_gib: float = setting(
      2.0, "What fits, in GiB of host memory for each split, where `cache` is 'auto'. "
      'Encoded images in an object store that fit are read once.',
      compiled=False)
  order: str = setting(
      'auto', "Of training examples in each epoch: 'global' (a permutation of all), "
      "'runs' (of runs of neighbours, and within windows; for data in an object store "
      "that do not fit `cache_limit_gib`), 'auto'.",
      choices=('auto', 'global', 'runs'), compiled=False)
  window_gib: float = setting(
      4.0, "With the order 'runs', GiB of encoded images that are shuffled at a time, "
      'over all hosts, which hold two to three times that together.', rule=at_least(0),
      compiled=False)
  max_bad_records: int = setting(
      0, 'Unreadable records to skip (and count) before the run stops.',
      rule=at_least(0), compiled=False)
  decode_threads: int = setting(
      0, 'Threads of the decoder; 0: chosen by tf.data.', rule=at_least(0),
      compiled=False)
