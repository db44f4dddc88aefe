"""What a plan needs to know of a data set that may not be on this machine."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from vit_jax.config.sections import Config, DataSection, PreprocessSection
from vit_jax.data import (
    builders,
    labels,
    published_sizes,
    record_features,
    record_labels,
    splits,
)
from vit_jax.data.pipeline import input_of, open_input
from vit_jax.data.sources import Source
from vit_jax.runtime.errors import UserError

# The width of the released models' head.
_IMAGENET21K_CLASSES = 21_843
# A size that is not known counts as too large to be decoded once and kept.
_UNKNOWN_SIZE = 10**9


@dataclasses.dataclass(frozen=True)
class Facts:
  """Of the training split.

  Attributes:
    num_classes: width of the head.
    num_examples: 0 if it is not known.
    stored_shape, label_shape, remaining: as those of `data.open_input`.
    origin: where this is known from, in words.
  """
  num_classes: int
  num_examples: int
  stored_shape: tuple[int, int, int]
  label_shape: tuple[int, ...]
  remaining: PreprocessSection
  origin: str


class _Described:
  """See `sources.Examples`: metadata without examples."""

  remote = False
  num_bytes = 0

  def __init__(self, num_examples: int, class_names: list[str],
               image_shape: tuple[int, ...] | None) -> None:
    self._num_examples = num_examples
    self.class_names, self.image_shape = class_names, image_shape

  def __len__(self) -> int:
    return self._num_examples

  def hold(self, ranges: Sequence[tuple[int, int]]) -> None:
    del ranges

  def check_files(self) -> NoReturn:
    raise UserError('This data set is only described; nothing can be read of it.')

  def read(self, indices: np.ndarray) -> NoReturn:
    self.check_files()

  def where(self, i: int) -> str:
    return 'a data set that is only described'


def find(config: Config, num_classes: int = 0, num_examples: int = 0) -> Facts:
  """The facts, from the data if they are here, else from what is known of them.

  Args:
    config: of the run.
    num_classes, num_examples: replace what is found; 0: nothing is replaced.

  Raises:
    UserError: where something is missing that the plan cannot do without.
  """
  data = config.data
  try:
    found = open_input(data, data.train_split, train=True)
    origin = 'the prepared data'
    size = found.num_examples
  except UserError as error:
    classes, image_shape = _metadata(data, num_classes, error)
    size = num_examples or _table_size(data)
    described = _Described(
        size or _UNKNOWN_SIZE, [str(i) for i in range(classes)], image_shape)
    source = Source(data.name, data.train_split, described, data.max_labels)
    found = input_of(data, source, train=True)
    origin = 'flags' if num_examples else 'the published size' if size else 'metadata'
  if not size and not config.total_steps:
    raise UserError(
        f'config.total_epochs={config.total_epochs:g} of {data.name} is a number of '
        'steps only with its number of examples: give --num_examples, or '
        'config.total_steps.')
  return Facts(num_classes or found.num_classes, num_examples or size,
               found.stored_shape, found.label_shape, found.remaining, origin)


def _metadata(data: DataSection, num_classes: int,
              error: UserError) -> tuple[int, tuple[int, ...] | None]:
  """(number of classes, image shape or None) without prepared data."""
  if data.label_rule:
    num_classes = num_classes or len(labels.find(data.label_rule).class_names)
  if data.name == 'imagenet21k':
    return num_classes or _IMAGENET21K_CLASSES, None
  try:
    builder = builders.open_builder(data) if data.name != 'folder' else None
  except builders.NotPrepared:
    builder = None
  if builder is None and not num_classes:
    raise UserError(
        f'{error}\nA plan can do without the data: give --num_classes, and '
        '--num_examples if the run is as long as a number of epochs.') from error
  if builder is None:
    return num_classes, None
  features = record_features.flat_features(builders.features(builder))
  image: Any = features.get(data.image_key)
  shape = tuple(image.shape) if image is not None else ()
  num_classes = num_classes or len(record_labels.open_labels(builder, data).class_names)
  return num_classes, shape if shape and all(shape) else None


def _table_size(data: DataSection) -> int:
  sizes = published_sizes.split_sizes(data.name)
  if not sizes:
    return 0
  lengths = {split: [size] for split, size in sizes.items()}
  name = published_sizes.base_name(data.name)
  ranges = splits.resolve(data.train_split, lengths, name)
  return sum(stop - start for _, start, stop in ranges)
