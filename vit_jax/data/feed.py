"""A thread that reads chunks ahead and hands them to tf.data."""

import collections
import concurrent.futures as futures
import itertools
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar('T')

# Chunks that wait for the decoder.
_AHEAD = 2


class Feed(Generic[T]):
  """Chunks start, start + 1, ... of arrays, in order, through a queue of TensorFlow.

  The queue hands tensors over without copying them, and no thread of TensorFlow runs
  Python: `Dataset.from_generator` does the opposite, at 20 to 40 us an image.
  """

  def __init__(self, tf: ModuleType, chunk_at: Callable[[int], T],
               read: Callable[[T], Sequence[np.ndarray]],
               specs: Sequence[tuple[Any, tuple[int, ...]]], start: int,
               stop: int | None, parallel: int = 1) -> None:
    """Begins to read.

    Args:
      tf: the TensorFlow module.
      chunk_at: n -> what to read, in the order of n.
      read: -> the arrays of a chunk, in any order.
      specs: their types and shapes.
      start: the first chunk.
      stop: one past the last; None: for ever.
      parallel: how many chunks to read at the same time.
    """
    self.error: Exception | None = None  # what ended it early
    self._tf, self._chunk_at, self._read = tf, chunk_at, read
    self._parallel = parallel
    self._start, self._stop = start, tf.int64.max if stop is None else stop
    types, shapes = zip(*specs, strict=True)
    self._queue = tf.queue.FIFOQueue(_AHEAD, types, shapes)
    self._closed = False
    self._thread = threading.Thread(
        target=self._run, name='vit_jax feed', daemon=True)
    self._thread.start()

  def dataset(self) -> Any:
    """A tf.data.Dataset of the chunks; an OpError in place of one that failed."""
    return self._tf.data.Dataset.range(self._start, self._stop).map(
        lambda n: self._queue.dequeue())

  def close(self) -> None:
    """Ends the thread, and whatever waits for its chunks."""
    self._closed = True
    self._close_queue(cancel_pending_enqueues=True)
    self._thread.join()

  def _close_queue(self, **options: bool) -> None:
    try:
      self._queue.close(**options)
    except self._tf.errors.CancelledError:
      pass  # It was closed from the other side.

  def _run(self) -> None:
    pending: collections.deque[futures.Future[Sequence[np.ndarray]]] = (
        collections.deque())
    pool = futures.ThreadPoolExecutor(self._parallel, 'vit_jax chunk')
    try:
      ahead = iter(range(self._start, self._stop))
      while not self._closed:
        for n in itertools.islice(ahead, self._parallel - len(pending)):
          pending.append(pool.submit(self._read, self._chunk_at(n)))
        if not pending:
          break
        arrays = pending.popleft().result()
        self._queue.enqueue(list(map(self._tf.constant, arrays)))
    except Exception as e:  # Of any kind: it is raised where chunks are asked for.
      self.error = e
    finally:
      self._close_queue()
      pool.shutdown(wait=False, cancel_futures=True)
