"""Data sets as indexable examples: `source.read(i) -> (image bytes, label)`.

A label is the number of a class or, where `config.data.max_labels` is set, an array
of that length with the numbers of any of the classes, filled up with -1.
"""

import collections
import contextlib
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Any, Protocol, TypeAlias

import numpy as np

from vit_jax.config.sections import DataSection
from vit_jax.runtime.errors import DataError, UserError

# As `Source.read` returns it.
Label: TypeAlias = int | np.ndarray


class Examples(Protocol):
  """What a format provides; see `tfds_examples.py` and `folder_examples.py`."""

  @property
  def class_names(self) -> Sequence[str]:
    """Names of the classes; a label is an index into them."""
    ...

  @property
  def image_shape(self) -> tuple[int, ...] | None:
    """(height, width, channels) of every image, or None where it varies."""
    ...

  @property
  def remote(self) -> bool:
    """Whether they lie in an object store."""
    ...

  @property
  def num_bytes(self) -> int:
    """Of all files together; 0 where each example is a file."""
    ...

  def __len__(self) -> int: ...

  def hold(self, ranges: Sequence[tuple[int, int]]) -> None:
    """Says which ranges [first, stop) will be read soon, instead of what was said."""
    ...

  def check_files(self) -> None:
    """Raises DataError for files that are missing, cut off or inconsistent."""
    ...

  def read(self, indices: np.ndarray
           ) -> tuple[list[bytes], Sequence[int | Sequence[int]]]:
    """Encoded images, and for each the number of its class or of all its classes.

    Raises:
      DataError: where one of them cannot be read.
      OSError: likewise.
    """
    ...

  def where(self, i: int) -> str:
    """The file that holds an example, for messages."""
    ...


class Source:
  """The examples of one split of one data set, in a fixed order.

  Attributes:
    name, split: of the data set.
    num_examples, num_classes, class_names: of this split.
    image_shape: (height, width, channels) of every image, or None where it varies.
    label_shape: of one label, () or (max_labels,).
    no_label: the label of a place that holds no example.
    pixel_factor: what decoded pixel values are to be multiplied with.
    as_shown: whether images are decoded as a viewer shows them, see `host.decode`.
  """

  def __init__(self, name: str, split: str, examples: Examples, max_labels: int = 0,
               pixel_factor: int = 1, max_examples: int = 0, as_shown: bool = False
               ) -> None:
    self.name, self.split = name, split
    self.label_shape: tuple[int, ...] = (max_labels,) if max_labels else ()
    self.no_label = np.full(max_labels, -1, np.int32) if max_labels else np.int32(0)
    self.pixel_factor, self.as_shown = pixel_factor, as_shown
    self.num_examples = min(len(examples), max_examples or len(examples))
    self.class_names = list(examples.class_names)
    self.num_classes = len(self.class_names)
    self.image_shape = examples.image_shape
    self._examples = examples

  def check_files(self) -> None:
    """Opens and checks all files of the split; the first `read` does so, too.

    Raises:
      DataError: for files that are missing, cut off or inconsistent.
    """
    self._examples.check_files()

  @property
  def remote(self) -> bool:
    """See `Examples`."""
    return self._examples.remote

  @property
  def num_bytes(self) -> int:
    """See `Examples`."""
    return self._examples.num_bytes

  def hold(self, ranges: Sequence[tuple[int, int]]) -> None:
    """See `Examples`."""
    self._examples.hold(ranges)

  def describe(self, i: int) -> str:
    return (f'data set {self.name}, split {self.split}, record {i} '
            f'(file {self._examples.where(i)})')

  def undecodable(self, i: int, reason: Any) -> DataError:
    """The error for an example that was read, but is no intact image."""
    return DataError(f'Cannot decode {self.describe(i)}: {reason}')

  def read(self, i: int) -> tuple[bytes, Label]:
    """The encoded image and the label of example `i`.

    Raises:
      DataError: where it cannot be read, or has an impossible label.
      UserError: where it has more labels than the settings say.
    """
    i = int(i)
    self.check_files()
    try:
      (image,), (label,) = self._examples.read(np.array([i]))
    except (DataError, OSError) as e:
      raise DataError(f'Cannot read {self.describe(i)}: {e}') from e
    return image, self._checked(i, label)

  def read_many(self, records: np.ndarray) -> tuple[list[bytes], np.ndarray]:
    """As `read`, of several examples at a small part of its cost for each.

    Returns:
      The encoded images, and their labels (n, *label_shape) int32.
    """
    self.check_files()
    try:
      images, found = self._examples.read(records)
    except (DataError, OSError):
      for record in records:
        self.read(record)  # Says which one it was.
      raise
    if self.label_shape:
      pairs = zip(records.tolist(), found, strict=True)
      return images, np.array([self._checked(i, label) for i, label in pairs], np.int32)
    labels = np.array(found)
    if labels.ndim != 1 or ((labels < 0) | (labels >= self.num_classes)).any():
      for record, label in zip(records.tolist(), found, strict=True):
        self._checked(record, label)
    return images, labels.astype(np.int32)

  def _checked(self, i: int, label: int | Sequence[int]) -> Label:
    """A label as `read` returns it."""
    classes = np.atleast_1d(label).tolist()
    for number in classes:
      # Losses take an impossible label without a word: one-hot rows become zero.
      if not 0 <= number < self.num_classes:
        raise DataError(
            f'{self.describe(i)} has label {number}, expected 0 to '
            f'{self.num_classes - 1}; prepare the data set again.')
    return self._pack(i, classes)

  def check_labels(self, examples: Iterable[int], threads: int = 16) -> None:
    """Raises UserError if one of these examples has more labels than the settings say.

    Reads their records, but decodes no image. What cannot be read is left to `read`.
    """
    def check(i: int) -> None:
      with contextlib.suppress(DataError):
        self.read(i)
    with futures.ThreadPoolExecutor(threads) as pool:
      collections.deque(pool.map(check, examples), maxlen=0)

  def _pack(self, i: int, classes: list[int]) -> Label:
    if not self.label_shape:
      if len(classes) != 1:
        raise UserError(
            f'{self.describe(i)} has {len(classes)} labels, expected one; set '
            'config.data.max_labels to the largest number of them.')
      return int(classes[0])
    classes = list(dict.fromkeys(classes))
    room = self.label_shape[0]
    if len(classes) > room:
      # No bad record that could be skipped: the setting is wrong.
      raise UserError(
          f'{self.describe(i)} has {len(classes)} labels, but config.data.max_labels='
          f'{room}; raise that number to at least {len(classes)}.')
    return np.array(classes + [-1] * (room - len(classes)), np.int32)


def open_source(data: DataSection, split: str) -> Source:
  """Opens a split by its metadata alone; record files are not touched yet."""
  if data.name == 'folder':
    from vit_jax.data import folder_examples as kind
  else:
    from vit_jax.data import tfds_examples as kind
  examples = kind.open_examples(data, split)
  return Source(data.name, split, examples, data.max_labels, data.pixel_factor,
                data.max_examples, as_shown(data, files=data.name == 'folder'))


def as_shown(data: DataSection, *, files: bool) -> bool:
  """What `data.as_shown` means for image files, or for the records of TFDS."""
  return files if data.as_shown == 'auto' else data.as_shown == 'always'
