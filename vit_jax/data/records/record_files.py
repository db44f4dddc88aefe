"""The files of a split: what their formats have in common."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class RecordFiles(Protocol):
  """Records of several files; from any thread."""

  def check(self) -> None:
    """Finds the records, once.

    Raises:
      DataError: for files that are missing, cut off, or have another number of
        records than they should.
    """
    ...

  def read(self, files: np.ndarray, records: np.ndarray) -> Iterator[bytes]:
    """Verified records, one after the other: what is done to one finds it in a cache.

    Args:
      files: for each record the number of its file.
      records: its number in that file.

    Raises:
      DataError: where one of them is damaged.
    """
    ...
