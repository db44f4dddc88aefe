"""Where each record of a set of TFRecord files begins and ends."""

import dataclasses
import struct
from collections.abc import Callable, Sequence

import numpy as np

from vit_jax.data.records.checksums import FOOTER, HEADER
from vit_jax.runtime.errors import DataError

_length_at = struct.Struct('<Q').unpack_from

@dataclasses.dataclass(frozen=True)
class Shard:
  """One file, as its data set's metadata and its file system describe it."""
  path: str
  num_records: int
  size: int  # bytes
  version: str  # changes whenever the file does


@dataclasses.dataclass(frozen=True)
class RecordIndex:
  """Of several files, 8 bytes a record.

  Attributes:
    offsets: of each file where its records begin, and where the last one ends.
    first: where each file's part of `offsets` begins.
  """
  offsets: np.ndarray
  first: np.ndarray

  def spans(self, files: np.ndarray, records: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Where records begin and end, given their files' numbers and theirs in these."""
    at = self.first[files] + records
    return self.offsets[at], self.offsets[at + 1]

  def of_file(self, number: int) -> np.ndarray:
    """The part of one file."""
    stop = (self.first[number + 1] if number + 1 < len(self.first)
            else len(self.offsets))
    return self.offsets[self.first[number]:stop]


def joined(parts: Sequence[np.ndarray]) -> RecordIndex:
  """The index of files, of the offsets in each of them."""
  lengths = [len(part) for part in parts]
  return RecordIndex(np.concatenate(parts), np.cumsum([0, *lengths[:-1]]))


def walk(shard: Shard, read: Callable[[int, int], bytes], block: int,
         large: int) -> np.ndarray:
  """Follows the lengths of records through a file.

  Args:
    shard: the file.
    read: `(start, stop) -> bytes` of it.
    block: how many bytes to read at a time.
    large: where records have more bytes than this on average, only their lengths are
      read.

  Returns:
    Where the records begin, and where the last one ends.

  Raises:
    DataError: where it is cut off, or has another number of records.
  """
  size = shard.size
  step = HEADER if size > large * shard.num_records else block
  offsets, at = [0], 0
  begin, data = 0, b''
  while at + HEADER <= size:
    if at + 8 > begin + len(data):
      begin, data = at, read(at, min(at + step, size))
      if len(data) < 8:
        break  # It has become shorter since its size was asked for.
    at += _length_at(data, at - begin)[0] + HEADER + FOOTER
    offsets.append(at)
  if at != size:
    raise DataError(
        f'{shard.path} is cut off or damaged: record {max(0, len(offsets) - 2)} '
        f'reaches to byte {at}, the file ends at byte {size}. Prepare the data set '
        'again, or copy this file again.')
  if len(offsets) - 1 != shard.num_records:
    raise DataError(
        f'{shard.path} holds {len(offsets) - 1} records, expected {shard.num_records} '
        "according to the data set's metadata; prepare the data set again.")
  return np.array(offsets, np.int64)
