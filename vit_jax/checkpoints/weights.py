"""Arrays of a weight file that are read one by one, when they are needed."""

import dataclasses
from collections.abc import Callable

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclasses.dataclass(frozen=True)
class Weight:
  """One array of a file: what it is, and how to get it.

  A conversion handles names, shapes and dtypes of all weights first and reads the
  arrays afterwards, one at a time, in the order in which they are written. So
  mistakes are found before anything is written, and memory holds few arrays.
  """
  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  @property
  def nbytes(self) -> int:
    return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def of_array(array: np.ndarray) -> Weight:
  return Weight(tuple(array.shape), np.dtype(array.dtype), lambda: array)
