"""Records that cannot be read: an error at once, or a bounded, counted skip."""

import threading
from collections.abc import Callable, Iterable, Iterator

from absl import logging

from vit_jax.runtime.errors import DataError


class BadRecords:
  """The unreadable records of a split that this process has met."""

  def __init__(self, limit: int) -> None:
    self._limit = limit
    self._found: set[int] = set()
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._found)

  def __iter__(self) -> Iterator[int]:
    return iter(sorted(self._found))

  def add(self, record: int, error: Exception) -> None:
    """Counts a record once; raises DataError when there are too many."""
    with self._lock:
      new = record not in self._found
      self._found.add(record)
      count = len(self._found)
    if not self._limit:
      raise DataError(
          f'{error}\nTo skip such records, up to a number, set '
          'config.data.max_bad_records.') from error
    if count > self._limit:
      raise DataError(
          f'{error}\nThis is unreadable record number {count}, but '
          f'config.data.max_bad_records={self._limit}. Mend the data, or raise that '
          'number.') from error
    if new:
      logging.warning('Skipping unreadable record %d of at most %d: %s',
                      count, self._limit, error)

  def update(self, records: Iterable[int]) -> None:
    """Adds records that were reported before."""
    with self._lock:
      self._found.update(map(int, records))


def next_readable(record: int, num_examples: int,
                  is_bad: Callable[[int], bool]) -> int:
  """What replaces a bad record in training: the first good one after it.

  A function of the record alone, so that hosts and resumed runs agree.
  """
  for i in range(num_examples):
    candidate = (record + i) % num_examples
    if not is_bad(candidate):
      return candidate
  raise DataError(
      f'All {num_examples} records are unreadable; expected at least one that can be '
      'decoded. Prepare the data set again.')
