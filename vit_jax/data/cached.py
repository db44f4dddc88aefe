"""Images decoded once and kept as one uint8 array."""

import concurrent.futures as futures
import os

import numpy as np

from vit_jax.data.bad_records import BadRecords, next_readable
from vit_jax.data.sources import Source
from vit_jax.data.streaming import Chunk, Stream
from vit_jax.preprocessing.host import decode
from vit_jax.preprocessing.placement import Plan
from vit_jax.runtime.errors import DataError

# Records per task of a decoder thread, and per chunk of TensorFlow.
_TASK = 256


class DecodedSplit:
  """images (N, h, w, 3), labels (N, *label shape), which records could be read."""

  def __init__(self, source: Source, plan: Plan, limit: int, threads: int):
    """Decodes everything; raises DataError beyond `limit` unreadable records."""
    self._source, self._plan = source, plan
    self._threads = threads
    self._bad = BadRecords(limit)
    n = source.num_examples
    self.images = np.zeros((n, *plan.host_size, 3), np.uint8)
    self.labels = np.full((n, *source.label_shape), source.no_label, np.int32)
    self.readable = np.ones(n, bool)
    source.check()
    # Resizing is TensorFlow's, too: its pixels are the reference.
    as_stored = not plan.host.resize and not plan.host.resize_small
    left = np.arange(n)
    if source.image_shape and as_stored:
      left = self._with_pillow(left)
    if left.size:
      self._with_tensorflow(left)
    # Record -> the record that training uses in its place.
    self.usable = np.arange(n)
    for record in np.flatnonzero(~self.readable):
      self.usable[record] = next_readable(
          int(record), n, lambda r: not self.readable[r])

  def _with_pillow(self, records):
    """Decodes what it can without TensorFlow; returns the other records."""
    tasks = np.split(records, range(_TASK, len(records), _TASK))
    with futures.ThreadPoolExecutor(self._threads or os.cpu_count()) as pool:
      results = list(pool.map(self._task, tasks))
    # Errors in the order of records, whatever thread was first to meet one.
    for record, error in (failure for failures, _ in results for failure in failures):
      self.readable[record] = False
      self._bad.add(record, error)
    return np.array([r for _, left in results for r in left], np.int64)

  def _task(self, records):
    failures, left = [], []
    for record in map(int, records):
      try:
        data, label = self._source.read(record)
      except DataError as e:
        failures.append((record, e))
        continue
      try:
        image = decode.with_pillow(data)
        if image is not None:
          image = decode.multiplied(image, self._source.pixel_factor)
      except DataError as e:
        failures.append((record, self._source.undecodable(record, e)))
        continue
      if image is None or image.shape != self.images.shape[1:]:
        left.append(record)
      else:
        self.images[record], self.labels[record] = image, label
    return failures, left

  def _with_tensorflow(self, records):
    stream = Stream(
        self._source, self._plan, self._bad, replace=False, threads=self._threads)
    count = -(-len(records) // _TASK)
    padded = np.full(count * _TASK, -1, np.int64)
    padded[:len(records)] = records
    seeds = np.zeros((_TASK, 2), np.int64)
    def chunk_at(i):
      return Chunk(padded[i * _TASK:(i + 1) * _TASK], seeds)
    for i, (images, labels, filled) in enumerate(stream.chunks(chunk_at, 0, count)):
      asked = chunk_at(i).records
      self.images[asked[filled]] = images[filled]
      self.labels[asked[filled]] = labels[filled]
      self.readable[asked[(asked >= 0) & ~filled]] = False
