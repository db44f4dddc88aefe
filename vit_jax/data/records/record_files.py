"""The files of a split: what their formats and places have in common."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Piece(NamedTuple):
  """Neighbouring records of one file, from `first` up to `stop`."""
  file: int
  first: int
  stop: int


class RecordFiles(Protocol):
  """Records of several files; from any thread."""

  @property
  def num_bytes(self) -> int:
    """Of all files together; finds the records as `check` does."""
    ...

  def check(self) -> None:
    """Finds the records, once.

    Raises:
      DataError: for files that are missing, cut off, or have another number of
        records than they should.
    """
    ...

  def hold(self, pieces: Sequence[Piece]) -> None:
    """Says which records will be read soon, instead of what was said before."""
    ...

  def read(self, files: np.ndarray, records: np.ndarray) -> Iterator[bytes]:
    """Verified records, one after the other: what is done to one finds it in a cache.

    Args:
      files: for each record the number of its file.
      records: its number in that file.

    Raises:
      DataError: where one of them is damaged.
      UserError: where files have changed, or cannot be reached.
    """
    ...
