"""Records of TFRecord files in an object store.

A small split is read whole, once. Of a larger one an index says where records lie; runs
of neighbouring records that `hold` has announced are read in one request each and stay
in memory as long as they are announced, others are read when they are asked for.
"""

import bisect
import concurrent.futures as futures
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from vit_jax.data.records import stored_index
from vit_jax.data.records.checksums import verified
from vit_jax.data.records.index import RecordIndex, Shard, joined, walk
from vit_jax.data.records.record_files import Piece
from vit_jax.runtime import storage
from vit_jax.runtime.errors import DataError, UserError

# Requests under way at the same time.
_REQUESTS = 64
# Bytes of one request where a file is read from its beginning to its end.
_BLOCK = 8 * 2**20


class StoreRecordFiles:
  """See `record_files.RecordFiles`; reads verify the checksums."""

  def __init__(self, paths: Sequence[str], num_records: Sequence[int],
               whole_up_to: int = 0) -> None:
    """`whole_up_to`: how many bytes are read whole and stay in memory."""
    self._paths, self._num_records = list(paths), list(num_records)
    self._whole_up_to = whole_up_to
    self._lock = threading.Lock()
    self._shards: list[Shard] = []
    self._index: RecordIndex | None = None
    self._whole: list[bytes] = []
    self._held: dict[Piece, futures.Future[bytes]] = {}
    # The held pieces of each file, by their first records, and how long they are.
    self._sorted: dict[int, list[Piece]] = {}
    self._longest = 0
    self._pool = futures.ThreadPoolExecutor(_REQUESTS, 'vit_jax store')

  @property
  def num_bytes(self) -> int:
    """See `record_files.RecordFiles`."""
    self._opened()
    return sum(shard.size for shard in self._shards)

  def check(self) -> None:
    """See `record_files.RecordFiles`."""
    self._opened()

  def hold(self, pieces: Sequence[Piece]) -> None:
    """See `record_files.RecordFiles`."""
    self._opened()
    if self._whole:
      return
    with self._lock:
      old = self._held
      self._held = {piece: old.pop(piece, None) or self._pool.submit(self._fetch, piece)
                    for piece in dict.fromkeys(pieces)}
      self._longest = max((piece.stop - piece.first for piece in pieces), default=0)
      self._sorted = {}
      for piece in sorted(self._held):
        self._sorted.setdefault(piece.file, []).append(piece)
    for future in old.values():
      future.cancel()

  def read(self, files: np.ndarray, records: np.ndarray) -> Iterator[bytes]:
    """See `record_files.RecordFiles`."""
    index = self._opened()
    starts, stops = index.spans(files, records)
    spans = [storage.Range(self._paths[file], start, stop) for file, start, stop
             in zip(files.tolist(), starts.tolist(), stops.tolist(), strict=True)]
    pieces = [self._piece_of(file, record) for file, record
              in zip(files.tolist(), records.tolist(), strict=True)]
    missing = [i for i, piece in enumerate(pieces) if piece is None]
    found = dict(zip(missing, self._requested([spans[i] for i in missing]), strict=True)
                 if not self._whole else ())
    for i, (file, piece, span) in enumerate(
        zip(files.tolist(), pieces, spans, strict=True)):
      if self._whole:
        raw = self._whole[file][span.start:span.stop]
      elif piece is None:
        raw = found[i]
      else:
        raw = self._cut_out(file, *piece, span)
      body = verified(raw)
      if body is None:
        self._check_unchanged(file)
        raise DataError(
            f'{span.path}, record {records[i]}: its checksum does not match its '
            'bytes; prepare the data set again, or copy this file again.')
      yield body

  def _cut_out(self, file: int, piece: Piece, future: futures.Future[bytes],
               span: storage.Range) -> bytes:
    """A record of a piece."""
    try:
      data = future.result()
    except futures.CancelledError:  # It was dropped in this very moment.
      return self._ranges([span])[0]
    first = int(self._opened().of_file(file)[piece.first])
    return data[span.start - first:span.stop - first]

  def _requested(self, spans: Sequence[storage.Range]) -> list[bytes]:
    """Records that no held piece has; neighbours in one request."""
    joint: list[storage.Range] = []
    group = []
    for span in spans:
      last = joint[-1] if joint else None
      if last and (last.path, last.stop) == (span.path, span.start) and (
          span.stop - last.start <= _BLOCK):
        joint[-1] = last._replace(stop=span.stop)
      else:
        joint.append(span)
      group.append(len(joint) - 1)
    data = self._ranges(joint)
    return [data[g][span.start - joint[g].start:span.stop - joint[g].start]
            for g, span in zip(group, spans, strict=True)]

  def _piece_of(self, file: int, record: int
                ) -> tuple[Piece, futures.Future[bytes]] | None:
    """The held piece with a record."""
    with self._lock:
      pieces = self._sorted.get(file, [])
      last = bisect.bisect_right(pieces, Piece(file, record, 2**62)) - 1
      # Those of two epochs may overlap.
      for at in range(last, -1, -1):
        if record < pieces[at].stop:
          return pieces[at], self._held[pieces[at]]
        if pieces[at].first <= record - self._longest:
          break
    return None

  def _fetch(self, piece: Piece) -> bytes:
    offsets = self._opened().of_file(piece.file)
    return self._ranges([storage.Range(
        self._paths[piece.file], int(offsets[piece.first]),
        int(offsets[piece.stop]))])[0]

  def _ranges(self, ranges: Sequence[storage.Range]) -> list[bytes]:
    try:
      return storage.read_ranges(ranges)
    except (FileNotFoundError, storage.StorageError):
      for path in dict.fromkeys(r.path for r in ranges):
        self._check_unchanged(self._paths.index(str(path)))
      raise

  def _check_unchanged(self, file: int) -> None:
    """Raises UserError if a file is no longer what it was when it was opened."""
    shard = self._shards[file]
    try:
      now = storage.stat(shard.path)
    except FileNotFoundError as e:
      raise UserError(f'{shard.path} has been deleted since this run began; expected '
                      'that data do not change. Put it back and start again.') from e
    if (now.size, now.version) != (shard.size, shard.version):
      raise UserError(
          f'{shard.path} has changed since this run began: it had {shard.size} bytes '
          f'(version {shard.version}), now {now.size} (version {now.version}). '
          'Expected that data do not change; check the data set and start again.')

  def _opened(self) -> RecordIndex:
    with self._lock:
      if self._index is None:
        self._shards = list(self._pool.map(_shard, self._paths, self._num_records))
        total = sum(shard.size for shard in self._shards)
        if total <= self._whole_up_to:
          self._whole = _read_whole(self._shards, self._pool)
          self._index = joined([
              walk(shard, lambda a, b, data=data: data[a:b], shard.size, shard.size)
              for shard, data in zip(self._shards, self._whole, strict=True)])
        else:
          self._index = stored_index.load_or_walk(
              self._shards, lambda changed: _walk_all(changed, self._pool))
      return self._index


def _shard(path: str, num_records: int) -> Shard:
  try:
    found = storage.stat(path)
  except FileNotFoundError as e:
    raise DataError(
        f'{path} cannot be opened (there is no such object). Expected a TFRecord file '
        f'of {num_records} records; prepare the data set again.') from e
  return Shard(path, num_records, found.size, found.version)


def _read_whole(shards: Sequence[Shard], pool: futures.Executor) -> list[bytes]:
  blocks = [[storage.Range(shard.path, at, min(at + _BLOCK, shard.size))
             for at in range(0, shard.size, _BLOCK)] for shard in shards]
  parts = [[pool.submit(storage.read_ranges, [block]) for block in of_shard]
           for of_shard in blocks]
  return [b''.join(part.result()[0] for part in of_shard) for of_shard in parts]


def _walk_all(shards: Sequence[Shard], pool: futures.Executor) -> list[np.ndarray]:
  logging.warning(
      'The records of %d files of %s, %.1f GB, have to be found by reading them once. '
      'To have that kept for other machines, let VIT_JAX_CACHE name a folder that they '
      'all reach.', len(shards), shards[0].path.rsplit('/', 1)[0],
      sum(shard.size for shard in shards) / 1e9)
  def walk_one(shard: Shard) -> np.ndarray:
    def read(start: int, stop: int) -> bytes:
      return storage.read_ranges([storage.Range(shard.path, start, stop)])[0]
    return walk(shard, read, _BLOCK, _BLOCK)
  return list(pool.map(walk_one, shards))
