"""Images decoded anew for every batch, by the C++ threads of tf.data.

Python says which record comes next and reads its bytes by random access; tf.data is
the pool of decoders behind it. There is no shuffle buffer, and hence no state.
"""

import atexit
import concurrent.futures as futures
import dataclasses
import weakref

import numpy as np

from vit_jax.data import tensorflow
from vit_jax.data.bad_records import BadRecords, next_readable
from vit_jax.data.sources import Source
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.host import ops as host_ops
from vit_jax.preprocessing.placement import Plan
from vit_jax.runtime.errors import DataError

# Threads that wait for the disk; a chunk is dealt out to them.
_READERS = 8
# Generators whose tf.data threads may be running. Such a thread asks for Python's
# lock when it wants more bytes, and an interpreter that is shutting down never gives
# it: without the hook below, programs that stop in the middle of a split would hang.
_running = weakref.WeakSet()


@atexit.register
def _close_all():
  for generator in list(_running):
    try:
      generator.close()
    except ValueError:
      pass  # A thread is inside the generator; it is a daemon, or it is done soon.


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Which records to decode; -1 is a blank place."""
  records: np.ndarray
  # Per record: (seed of the run, position in the run), the seed of its crop.
  seeds: np.ndarray


class Stream:
  """Decoded chunks of records, in the order in which they are asked for."""

  def __init__(self, source: Source, plan: Plan, bad: BadRecords, *,
               replace: bool, threads: int):
    """Reads nothing yet.

    Args:
      source: the examples.
      plan: what to do with their images.
      bad: where unreadable records are counted.
      replace: put the next readable record in place of an unreadable one; else
        such a place is blank.
      threads: number of decoder threads; 0: tf.data chooses.
    """
    self._source, self._plan, self._bad = source, plan, bad
    self._replace, self._threads = replace, threads
    # (record, position): its window there cannot be decoded; (record, None): none can.
    self._unusable = set()
    self._tf = self._prepare = None

  def load(self):
    """Checks the files and starts TensorFlow."""
    self._source.check()
    tf = tensorflow.load()
    self._prepare = host_ops.make_prepare(
        tf, self._plan.host, self._plan.host_size, self._source.pixel_factor)
    self._tf = tf

  def chunks(self, chunk_at, start: int, stop: int | None = None):
    """A generator of (images, labels, filled) of chunk_at(start), (start + 1), ...

    Args:
      chunk_at: n -> Chunk, always the same for the same n, all of one length.
      start: first n.
      stop: one past the last n; None: for ever.
    """
    generator = self._chunks(chunk_at, start, stop)
    _running.add(generator)
    return generator

  def _chunks(self, chunk_at, start, stop):
    self.load()
    n = start
    while stop is None or n < stop:
      try:
        for arrays in self._dataset(chunk_at, n, stop):
          n += 1
          # Without a copy: the arrays keep the tensors they look at alive.
          yield tuple(np.asarray(memoryview(x)) for x in arrays)
      except self._tf.errors.OpError as error:
        # tf.data cannot say which record it was. Chunks arrive in order, so it is
        # one of chunk n; after the skip, go on from there.
        self._diagnose(chunk_at(n), error)

  def _dataset(self, chunk_at, start, stop):
    tf = self._tf
    length = len(chunk_at(start).records)
    parallel = self._threads or tf.data.AUTOTUNE
    options = tf.data.Options()
    options.deterministic = True
    if self._threads:
      options.threading.private_threadpool_size = self._threads
    def spec(dtype, *shape):
      return tf.TensorSpec((None, *shape), dtype)
    return (
        tf.data.Dataset.from_generator(
            lambda: self._read_chunks(chunk_at, start, stop),
            output_signature=(
                spec(tf.string), spec(tf.int32, *self._source.label_shape),
                spec(tf.bool), spec(tf.int64, 2)))
        .prefetch(2)
        .unbatch()
        .map(lambda data, label, filled, seed:
             (self._prepare(data, seed), label, filled), parallel)
        .batch(length, drop_remainder=True)
        .prefetch(2)
        .with_options(options))

  def _read_chunks(self, chunk_at, start, stop):
    with futures.ThreadPoolExecutor(_READERS, 'vit_jax reader') as pool:
      n = start
      while stop is None or n < stop:
        chunk = chunk_at(n)
        parts = np.array_split(np.arange(len(chunk.records)), _READERS)
        examples = sum(pool.map(lambda part, c=chunk: self._read(c, part), parts), [])
        data, labels, filled = zip(*examples, strict=True)
        yield (np.array(data, object), np.array(labels, np.int32), np.array(filled),
               chunk.seeds)
        n += 1

  def _read(self, chunk, part):
    examples = []
    for record, seed in zip(chunk.records[part], chunk.seeds[part], strict=True):
      record = self._choose(int(record), int(seed[1]))
      if record < 0:
        examples.append((b'', self._source.no_label, False))
      else:
        data, label = self._source.read(record)
        examples.append((decode.portable(data), label, True))
    return examples

  def _choose(self, record, position):
    """The record to read at this place, or -1."""
    def is_bad(r):
      return (r, None) in self._unusable or (r, position) in self._unusable
    if record < 0 or not is_bad(record):
      return record
    if not self._replace:
      return -1
    return next_readable(record, self._source.num_examples, is_bad)

  def _diagnose(self, chunk, error):
    """Finds and counts the unreadable records of a chunk that failed."""
    found = False
    for record, seed in zip(chunk.records, chunk.seeds, strict=True):
      position = int(seed[1])
      while (chosen := self._choose(int(record), position)) >= 0:
        failure, everywhere = self._try(chosen, seed)
        if failure is None:
          break
        found = True
        self._bad.add(chosen, failure)
        self._unusable.add((chosen, None if everywhere else position))
    if not found:
      raise error

  def _try(self, record, seed):
    """(why a record cannot be used or None, whether for every window)."""
    try:
      data = self._source.read(record)[0]
    except DataError as e:
      return e, True
    try:
      data = decode.portable(data)
      self._prepare(self._tf.constant(data), self._tf.constant(seed))
    except DataError as e:
      return self._source.undecodable(record, e), True
    except self._tf.errors.OpError as e:
      cropped = (host_ops.crops_while_decoding(self._plan.host)
                 and decode.is_whole_jpeg(data))
      reason = host_ops.reason(e)
      if 'config.data' not in reason:
        reason += ' Expected an intact image; replace or remove it.'
      return self._source.undecodable(record, reason), not cropped
    return None, False
