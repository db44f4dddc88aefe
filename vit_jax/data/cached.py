"""Images decoded once and kept as one uint8 array."""

import concurrent.futures as futures
import itertools
import os
from collections.abc import Iterator

import numpy as np

from vit_jax.data.bad_records import BadRecords, next_readable
from vit_jax.data.chunks import Chunk, ChunkAt, Decoded
from vit_jax.data.decoded_splits import DecodedSplit
from vit_jax.data.sources import Source
from vit_jax.data.streaming import Stream
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.placement import Placement
from vit_jax.runtime.errors import DataError

# Records per task of a decoder thread, and per chunk of TensorFlow.
_TASK = 256


class CachedChunks:
  """Chunks of a decoded split; see `chunks.ChunkReader`."""

  def __init__(self, split: DecodedSplit, no_label: np.ndarray | np.int32,
               bad: BadRecords, *, replace: bool) -> None:
    """See `streaming.Stream`; `no_label` is the label of a blank place."""
    self._split, self._no_label = split, no_label
    self._bad, self._replace = bad, replace
    if replace:
      bad.update(np.flatnonzero(~split.readable))

  def chunks(self, chunk_at: ChunkAt, start: int,
             stop: int | None = None) -> Iterator[Decoded]:
    """See `chunks.ChunkReader`."""
    for n in itertools.count(start) if stop is None else range(start, stop):
      yield self._look_up(chunk_at(n).records)

  def _look_up(self, records: np.ndarray) -> Decoded:
    split = self._split
    if self._replace:
      records = np.where(records < 0, records, split.usable[records])
    blank = (records < 0) | ~split.readable[records]
    # Every process decodes all records, but answers only for those of its rows:
    # the sum over processes must count a record once.
    self._bad.update(records[blank & (records >= 0)])
    images, labels = split.images[records], split.labels[records]
    images[blank], labels[blank] = 0, self._no_label
    return images, labels, ~blank


def decode_split(source: Source, placement: Placement, max_bad_records: int,
                 threads: int) -> DecodedSplit:
  """Decodes everything.

  Args:
    source: the examples.
    placement: what to do with their images.
    max_bad_records: how many records may be unreadable.
    threads: number of decoder threads; 0: as many as suit.

  Raises:
    DataError: for files that cannot be read, and too many unreadable records.
  """
  source.check_files()
  n, bad = source.num_examples, BadRecords(max_bad_records)
  split = DecodedSplit(
      images=np.zeros((n, *placement.host_size, 3), np.uint8),
      labels=np.full((n, *source.label_shape), source.no_label, np.int32),
      readable=np.ones(n, bool), usable=np.arange(n))
  left = np.arange(n)
  # Resizing is TensorFlow's, too: its pixels are the reference.
  resizes = placement.host.resize or placement.host.resize_small
  if source.image_shape and not resizes:
    left = _decode_with_pillow(split, source, bad, threads)
  if left.size:
    stream = Stream(source, placement, bad, replace=False, threads=threads)
    _decode_with_tensorflow(split, left, stream)
  for record in np.flatnonzero(~split.readable):
    split.usable[record] = next_readable(
        int(record), n, lambda r: not split.readable[r])
  return split


def _decode_with_pillow(split: DecodedSplit, source: Source, bad: BadRecords,
                        threads: int) -> np.ndarray:
  """Decodes what it can without TensorFlow; returns the other records."""
  records = np.arange(len(split.readable))
  tasks = np.split(records, range(_TASK, len(records), _TASK))
  with futures.ThreadPoolExecutor(threads or os.cpu_count()) as pool:
    results = list(pool.map(lambda task: _decode_task(split, source, task), tasks))
  # Errors in the order of records, whatever thread was first to meet one.
  for record, error in (failure for failures, _ in results for failure in failures):
    split.readable[record] = False
    bad.add(record, error)
  return np.array([r for _, left in results for r in left], np.int64)


def _decode_task(split: DecodedSplit, source: Source, records: np.ndarray
                 ) -> tuple[list[tuple[int, DataError]], list[int]]:
  """(failures, records left to TensorFlow) of a few records."""
  failures, left = [], []
  for record in map(int, records):
    try:
      data, label = source.read(record)
    except DataError as e:
      failures.append((record, e))
      continue
    try:
      image = decode.with_pillow(data, as_shown=source.as_shown)
      if image is not None:
        image = decode.multiplied(image, source.pixel_factor)
    except DataError as e:
      failures.append((record, source.undecodable(record, e)))
      continue
    if image is None or image.shape != split.images.shape[1:]:
      left.append(record)
    else:
      split.images[record], split.labels[record] = image, label
  return failures, left


def _decode_with_tensorflow(split: DecodedSplit, records: np.ndarray,
                            stream: Stream) -> None:
  count = -(-len(records) // _TASK)
  padded = np.full(count * _TASK, -1, np.int64)
  padded[:len(records)] = records
  seeds = np.zeros((_TASK, 2), np.int64)
  def chunk_at(i: int) -> Chunk:
    return Chunk(padded[i * _TASK:(i + 1) * _TASK], seeds)
  for i, (images, labels, filled) in enumerate(stream.chunks(chunk_at, 0, count)):
    asked = chunk_at(i).records
    split.images[asked[filled]] = images[filled]
    split.labels[asked[filled]] = labels[filled]
    split.readable[asked[(asked >= 0) & ~filled]] = False
