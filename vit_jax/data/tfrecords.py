"""Random access to the records of one TFRecord file.

A record is: length (uint64), its checksum (uint32), the bytes, their checksum
(uint32), little-endian; checksums are CRC32C, rotated and offset ("masked").
"""

import mmap
import os
import struct

import google_crc32c
import numpy as np

from vit_jax.runtime.errors import DataError

_HEADER, _FOOTER = 12, 4


class TfRecordFile:
  """See `tfds_examples.RecordFile`; reads verify the checksums."""

  def __init__(self, path: str | os.PathLike, num_records: int) -> None:
    """Walks the headers; raises DataError unless there are `num_records` records."""
    self.path = os.fspath(path)
    try:
      self._fd = os.open(self.path, os.O_RDONLY)
    except OSError as e:
      raise DataError(
          f'{self.path} cannot be opened ({e.strerror}). Expected a TFRecord file '
          f'of {num_records} records; prepare the data set again.') from e
    self._offsets = _walk(self._fd, self.path)
    if len(self) != num_records:
      raise DataError(
          f'{self.path} holds {len(self)} records, expected {num_records} according '
          "to the data set's metadata; prepare the data set again.")

  def __len__(self) -> int:
    return len(self._offsets) - 1

  def read(self, i: int) -> bytes:
    start, end = int(self._offsets[i]), int(self._offsets[i + 1])
    raw = os.pread(self._fd, end - start, start)
    body = raw[_HEADER:-_FOOTER]
    intact = (
        len(raw) == end - start
        and _masked_crc(raw[:8]) == struct.unpack_from('<I', raw, 8)[0]
        and _masked_crc(body) == struct.unpack_from('<I', raw, len(raw) - _FOOTER)[0])
    if not intact:
      raise DataError(
          f'{self.path}, record {i}: its checksum does not match its bytes; '
          'prepare the data set again, or copy this file again.')
    return body

  def __del__(self) -> None:
    if hasattr(self, '_fd'):
      os.close(self._fd)


def _walk(fd: int, path: str) -> np.ndarray:
  """Where each record begins, and where the last one ends."""
  size = os.fstat(fd).st_size
  offsets, at = [0], 0
  if size:
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as data:
      # Only headers are touched: reading ahead would fetch the whole file.
      data.madvise(mmap.MADV_RANDOM)
      length_at = struct.Struct('<Q').unpack_from
      while at + _HEADER <= size:
        at += length_at(data, at)[0] + _HEADER + _FOOTER
        offsets.append(at)
  if at != size:
    raise DataError(
        f'{path} is cut off or damaged: record {max(0, len(offsets) - 2)} reaches to '
        f'byte {at}, the file ends at byte {size}. Prepare the data set again, or '
        'copy this file again.')
  return np.array(offsets, np.int64)


def _masked_crc(data: bytes) -> int:
  crc = google_crc32c.value(data)
  return (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff
