"""Random access to the records of TFRecord files on disks.

A record is: length (uint64), its checksum (uint32), the bytes, their checksum
(uint32), little-endian.
"""

import concurrent.futures as futures
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from vit_jax.data.records import stored_index
from vit_jax.data.records.checksums import verified
from vit_jax.data.records.index import RecordIndex, Shard, walk
from vit_jax.data.records.open_files import Descriptor, OpenFiles
from vit_jax.data.records.record_files import Piece
from vit_jax.runtime.errors import DataError

# Small records are read past in blocks of this many bytes, larger ones skipped over.
_BLOCK, _LARGE = 256 * 1024, 16 * 1024
# Threads that wait for the disk while records are looked for.
_WALKERS = 16


class TfRecordFiles:
  """See `record_files.RecordFiles`; reads verify the checksums."""

  def __init__(self, paths: Sequence[str], num_records: Sequence[int]) -> None:
    self._paths, self._num_records = list(paths), list(num_records)
    self._files = OpenFiles(Descriptor)
    self._lock = threading.Lock()
    self._index: RecordIndex | None = None

  @property
  def num_bytes(self) -> int:
    """See `record_files.RecordFiles`."""
    return sum(os.stat(path).st_size for path in self._paths)

  def check(self) -> None:
    """See `record_files.RecordFiles`."""
    self._opened()

  def hold(self, pieces: Sequence[Piece]) -> None:
    """See `record_files.RecordFiles`; the system's cache does as well."""

  def read(self, files: np.ndarray, records: np.ndarray) -> Iterator[bytes]:
    """See `record_files.RecordFiles`."""
    starts, stops = self._opened().spans(files, records)
    places = zip(files.tolist(), records.tolist(), starts.tolist(), stops.tolist(),
                 strict=True)
    for file, record, start, stop in places:
      path = self._paths[file]
      raw = self._files.get(path).read(start, stop)
      # A record that is cut off has no checksum where it should have.
      body = verified(raw) if len(raw) == stop - start else None
      if body is None:
        raise DataError(
            f'{path}, record {record}: its checksum does not match its bytes; prepare '
            'the data set again, or copy this file again.')
      yield body

  def _opened(self) -> RecordIndex:
    with self._lock:
      if self._index is None:
        with futures.ThreadPoolExecutor(_WALKERS) as pool:
          shards = list(pool.map(_shard, self._paths, self._num_records))
          self._index = stored_index.load_or_walk(
              shards, lambda changed: list(pool.map(_walk, changed)))
      return self._index


def _shard(path: str, num_records: int) -> Shard:
  try:
    found = os.stat(path)
    # A file that cannot be read is to be told of now, not in the middle of a run.
    Descriptor(path)
  except OSError as e:
    raise DataError(
        f'{path} cannot be opened ({e.strerror}). Expected a TFRecord file of '
        f'{num_records} records; prepare the data set again.') from e
  return Shard(path, num_records, found.st_size, str(found.st_mtime_ns))


def _walk(shard: Shard) -> np.ndarray:
  return walk(shard, Descriptor(shard.path).read, _BLOCK, _LARGE)
