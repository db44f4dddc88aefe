"""Random access to the records of one ArrayRecord file."""

import os

from vit_jax.runtime.errors import DataError, UserError


class ArrayRecordFile:
  """See `tfds_examples.RecordFile`; blocks carry their own hashes."""

  def __init__(self, path: str | os.PathLike, num_records: int) -> None:
    """Opens it; raises DataError unless there are `num_records` records."""
    try:
      from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as e:
      raise UserError(
          f'{path} is an ArrayRecord file, which the package array_record reads; '
          'install it with `pip install array_record`.') from e
    self.path = os.fspath(path)
    try:
      self._reader = ArrayRecordReader(self.path)
      found = self._reader.num_records()
    except (RuntimeError, IndexError, OSError) as e:
      raise DataError(
          f'{self.path} cannot be opened as an ArrayRecord file of {num_records} '
          f'records ({_first_line(e)}); prepare the data set again.') from e
    if found != num_records:
      raise DataError(
          f'{self.path} holds {found} records, expected {num_records} according to '
          "the data set's metadata; prepare the data set again.")

  def __len__(self) -> int:
    return self._reader.num_records()

  def read(self, i: int) -> bytes:
    try:
      return self._reader.read([i])[0]
    except (RuntimeError, IndexError, OSError) as e:
      raise DataError(
          f'{self.path}, record {i}: damaged ({_first_line(e)}); prepare the data set '
          'again, or copy this file again.') from e


def _first_line(e: Exception) -> str:
  return (str(e).splitlines() or [type(e).__name__])[0][:200]
