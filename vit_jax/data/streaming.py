"""Images decoded anew for every batch, by the C++ threads of tf.data.

Python says which record comes next and reads its bytes by random access; tf.data is
the pool of decoders behind it. There is no shuffle buffer, and hence no state.
"""

import atexit
import concurrent.futures as futures
import functools
import weakref
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from vit_jax.data import tensorflow
from vit_jax.data.bad_records import BadRecords, next_readable
from vit_jax.data.chunks import Chunk, ChunkAt, Decoded
from vit_jax.data.feed import Feed
from vit_jax.data.sources import Source
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.host import ops as host_ops
from vit_jax.preprocessing.placement import Placement
from vit_jax.runtime.errors import DataError

# Threads that wait for the disk; a chunk is dealt out to them in parts of some records.
_READERS, _PART = 8, 16
# Chunks read at a time from an object store, which takes long to answer.
_REMOTE_CHUNKS = 4
# Generators whose threads may be running. They are stopped before the interpreter and
# TensorFlow shut down: programs that end in the middle of a split would hang or crash.
_running: weakref.WeakSet[Generator] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
  for generator in list(_running):
    try:
      generator.close()
    except ValueError:
      pass  # A thread is inside the generator; it is a daemon, or it is done soon.


@functools.cache
def _pool() -> futures.ThreadPoolExecutor:
  """Of all streams of the process."""
  return futures.ThreadPoolExecutor(_READERS, 'vit_jax reader')


class Stream:
  """Chunks decoded when they are asked for; see `chunks.ChunkReader`."""

  def __init__(self, source: Source, placement: Placement, bad: BadRecords, *,
               replace: bool, threads: int) -> None:
    """Checks the files and starts TensorFlow.

    Args:
      source: the examples.
      placement: what to do with their images.
      bad: where unreadable records are counted.
      replace: put the next readable record in place of an unreadable one; else
        such a place is blank.
      threads: number of decoder threads; 0: tf.data chooses.

    Raises:
      DataError: for files that are missing, cut off or inconsistent.
    """
    source.check_files()
    self._source, self._host, self._bad = source, placement.host, bad
    self._replace, self._threads = replace, threads
    # (record, position): its window there cannot be decoded; (record, None): none can.
    self._unusable: set[tuple[int, int | None]] = set()
    self._ahead: tuple[tuple[int, int], ...] = ()
    self._tf = tensorflow.load()
    self._prepare = host_ops.make_prepare(
        self._tf, placement.host, placement.host_size, source.pixel_factor)

  def chunks(self, chunk_at: ChunkAt, start: int,
             stop: int | None = None) -> Iterator[Decoded]:
    """See `chunks.ChunkReader`."""
    generator = self._chunks(chunk_at, start, stop)
    _running.add(generator)
    return generator

  def _chunks(self, chunk_at: ChunkAt, start: int, stop: int | None
              ) -> Generator[Decoded, None, None]:
    n = start
    while stop is None or n < stop:
      feed = self._feed(chunk_at, n, stop)
      try:
        for arrays in self._dataset(feed, len(chunk_at(n).records)):
          n += 1
          # Without a copy: the arrays keep the tensors they look at alive.
          images, labels, filled = (np.asarray(memoryview(x)) for x in arrays)
          yield images, labels, filled
      except self._tf.errors.OpError as error:
        feed.close()
        if feed.error and not isinstance(
            feed.error, (DataError, OSError, self._tf.errors.OpError)):
          raise feed.error from None
        # tf.data cannot say which record it was. Chunks arrive in order, so it is
        # one of chunk n; after the skip, go on from there.
        self._diagnose(chunk_at(n), feed.error or error)
      finally:
        feed.close()

  def _feed(self, chunk_at: ChunkAt, start: int, stop: int | None) -> Feed[Chunk]:
    """Chunks of what `_read_chunk` returns."""
    tf, length = self._tf, len(chunk_at(start).records)
    specs = ((tf.string, (length,)),
             (tf.int32, (length, *self._source.label_shape)),
             (tf.bool, (length,)), (tf.int64, (length, 2)), (tf.int32, (length,)))
    def announced(n: int) -> Chunk:
      chunk = chunk_at(n)
      if chunk.ahead is not self._ahead:
        self._ahead = chunk.ahead
        self._source.hold(chunk.ahead)
      return chunk
    return Feed(tf, announced, self._read_chunk, specs, start, stop,
                _REMOTE_CHUNKS if self._source.remote else 1)

  def _dataset(self, feed: Feed, length: int) -> Any:
    """A tf.data.Dataset of (images, labels, filled)."""
    tf = self._tf
    parallel = self._threads or tf.data.AUTOTUNE
    options = tf.data.Options()
    options.deterministic = True
    if self._threads:
      options.threading.private_threadpool_size = self._threads
    return (
        feed.dataset()
        .unbatch()
        .map(lambda data, label, filled, seed, orientation:
             (self._prepare(data, seed, orientation), label, filled), parallel)
        .batch(length, drop_remainder=True)
        .prefetch(2)
        .with_options(options))

  def _read_chunk(self, chunk: Chunk) -> tuple[np.ndarray, ...]:
    """(encoded images, labels, filled, seeds, orientations)."""
    chosen = chunk.records
    if self._unusable:
      chosen = np.array([self._choose(int(record), int(seed[1])) for record, seed
                         in zip(chosen, chunk.seeds, strict=True)])
    data = np.full(len(chosen), b'', object)
    labels = np.full((len(chosen), *self._source.label_shape), self._source.no_label,
                     np.int32)
    orientations = np.ones(len(chosen), np.int32)
    def read(places: np.ndarray) -> None:
      found, labels[places] = self._source.read_many(chosen[places])
      data[places], orientations[places] = zip(*(
          decode.portable(image, as_shown=self._source.as_shown) for image in found),
          strict=True)
    filled = chosen >= 0
    places = np.flatnonzero(filled)
    parts = min(_READERS, -(-len(places) // _PART))
    for _ in _pool().map(read, np.array_split(places, parts)) if parts else ():
      pass
    return data, labels, filled, chunk.seeds, orientations

  def _choose(self, record: int, position: int) -> int:
    """The record to read at this place, or -1."""
    def is_bad(r: int) -> bool:
      return (r, None) in self._unusable or (r, position) in self._unusable
    if record < 0 or not is_bad(record):
      return record
    if not self._replace:
      return -1
    return next_readable(record, self._source.num_examples, is_bad)

  def _diagnose(self, chunk: Chunk, error: Exception) -> None:
    """Finds and counts the unreadable records of a chunk that failed."""
    found = False
    for record, seed in zip(chunk.records, chunk.seeds, strict=True):
      position = int(seed[1])
      while (chosen := self._choose(int(record), position)) >= 0:
        failure, everywhere = self._failure(chosen, seed)
        if failure is None:
          break
        found = True
        self._bad.add(chosen, failure)
        self._unusable.add((chosen, None if everywhere else position))
    if not found:
      raise error

  def _failure(self, record: int, seed: np.ndarray) -> tuple[DataError | None, bool]:
    """(why a record cannot be used or None, whether for every window)."""
    try:
      data = self._source.read(record)[0]
    except DataError as e:
      return e, True
    try:
      data, orientation = decode.portable(data, as_shown=self._source.as_shown)
      self._prepare(self._tf.constant(data), self._tf.constant(seed),
                    self._tf.constant(orientation))
    except DataError as e:
      return self._source.undecodable(record, e), True
    except self._tf.errors.OpError as e:
      cropped = (host_ops.crops_while_decoding(self._host)
                 and decode.is_whole_jpeg(data) and orientation == 1)
      reason = host_ops.reason(e)
      if 'config.data' not in reason:
        reason += ' Expected an intact image; replace or remove it.'
      return self._source.undecodable(record, reason), not cropped
    return None, False
