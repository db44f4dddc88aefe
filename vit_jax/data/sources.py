"""Data sets as indexable examples: `source.read(i) -> (image bytes, label)`."""

from typing import Protocol

from vit_jax.errors import DataError
from vit_jax.sections import DataSection


class Examples(Protocol):
  """What a format provides; see `tfds_examples.py` and `folder_examples.py`."""

  # Names of the classes; a label is an index into them.
  class_names: list
  # (height, width, channels) of every image, or None where it varies.
  image_shape: tuple | None

  def __len__(self) -> int: ...

  def check(self) -> None:
    """Raises DataError for files that are missing, cut off or inconsistent."""

  def read(self, i: int) -> tuple[bytes, int]: ...

  def where(self, i: int) -> str:
    """The file that holds an example, for messages."""


class Source:
  """The examples of one split of one data set, in a fixed order."""

  def __init__(self, name: str, split: str, examples: Examples):
    self.name, self.split = name, split
    self.num_examples = len(examples)
    self.class_names = list(examples.class_names)
    self.num_classes = len(self.class_names)
    self.image_shape = examples.image_shape
    self._examples = examples

  def check(self):
    """Opens and checks all files of the split; the first `read` does so, too."""
    self._examples.check()

  def describe(self, i: int) -> str:
    return (f'data set {self.name}, split {self.split}, record {i} '
            f'(file {self._examples.where(i)})')

  def undecodable(self, i: int, reason) -> DataError:
    """The error for an example that was read, but is no intact image."""
    return DataError(f'Cannot decode {self.describe(i)}: {reason}')

  def read(self, i: int) -> tuple[bytes, int]:
    """The encoded image and the label of example `i`."""
    i = int(i)
    self.check()
    try:
      image, label = self._examples.read(i)
    except (DataError, OSError) as e:
      raise DataError(f'Cannot read {self.describe(i)}: {e}') from e
    # Losses take an impossible label without a word: one-hot rows become zero.
    if not 0 <= label < self.num_classes:
      raise DataError(
          f'{self.describe(i)} has label {label}, expected 0 to '
          f'{self.num_classes - 1}; prepare the data set again.')
    return image, label


def open_source(data: DataSection, split: str) -> Source:
  """Opens a split by its metadata alone; record files are not touched yet."""
  if data.name == 'folder':
    from vit_jax.data import folder_examples as kind
  else:
    from vit_jax.data import tfds_examples as kind
  return Source(data.name, split, kind.open_examples(data, split))
