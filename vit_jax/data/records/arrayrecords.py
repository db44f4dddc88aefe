"""Random access to the records of ArrayRecord files."""

import concurrent.futures as futures
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vit_jax.data.records.open_files import OpenFiles
from vit_jax.data.records.record_files import Piece
from vit_jax.runtime.errors import DataError, UserError

_CHECKERS = 16


class ArrayRecordFiles:
  """See `record_files.RecordFiles`; blocks carry their own hashes."""

  def __init__(self, paths: Sequence[str], num_records: Sequence[int]) -> None:
    self._paths = list(paths)
    self._num_records = dict(zip(paths, num_records, strict=True))
    self._files: OpenFiles[Any] = OpenFiles(self._open)
    self._checked = False

  @property
  def num_bytes(self) -> int:
    """See `record_files.RecordFiles`."""
    return sum(os.stat(path).st_size for path in self._paths)

  def check(self) -> None:
    """See `record_files.RecordFiles`."""
    if not self._checked:
      with futures.ThreadPoolExecutor(_CHECKERS) as pool:
        for _ in pool.map(self._files.get, self._paths):
          pass
      self._checked = True

  def hold(self, pieces: Sequence[Piece]) -> None:
    """See `record_files.RecordFiles`; the system's cache does as well."""

  def read(self, files: np.ndarray, records: np.ndarray) -> Iterator[bytes]:
    """See `record_files.RecordFiles`."""
    self.check()
    for file, record in zip(files.tolist(), records.tolist(), strict=True):
      yield self._read(self._paths[file], record)

  def _read(self, path: str, record: int) -> bytes:
    try:
      return self._files.get(path).read([record])[0]
    except (RuntimeError, IndexError, OSError) as e:
      raise DataError(
          f'{path}, record {record}: damaged ({_first_line(e)}); prepare the data set '
          'again, or copy this file again.') from e

  def _open(self, path: str) -> Any:
    num_records = self._num_records[path]
    try:
      from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as e:
      raise UserError(
          f'{path} is an ArrayRecord file, which the package array_record reads; '
          'install it with `pip install array_record`.') from e
    try:
      reader = ArrayRecordReader(path)
      found = reader.num_records()
    except (RuntimeError, IndexError, OSError) as e:
      raise DataError(
          f'{path} cannot be opened as an ArrayRecord file of {num_records} records '
          f'({_first_line(e)}); prepare the data set again.') from e
    if found != num_records:
      raise DataError(
          f'{path} holds {found} records, expected {num_records} according to the data '
          "set's metadata; prepare the data set again.")
    return reader


def _first_line(e: Exception) -> str:
  return (str(e).splitlines() or [type(e).__name__])[0][:200]
