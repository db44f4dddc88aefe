"""`open_input`: one split as batches of uint8 images, for training or evaluation.

A batch is a pure function of (seed, step, configuration), and evaluation visits
every example once; see `order.py`. Both hold whether images are cached or streamed.
"""

import dataclasses
import threading

import numpy as np

from vit_jax.config.sections import DataSection
from vit_jax.data import order
from vit_jax.data.bad_records import BadRecords
from vit_jax.data.cached import DecodedSplit
from vit_jax.data.decoded_splits import DecodedSplits
from vit_jax.data.sources import Source, open_source
from vit_jax.data.streaming import Chunk, Stream
from vit_jax.preprocessing import placement as preprocess
from vit_jax.runtime.errors import UserError


def open_input(data: DataSection, split: str, *, train: bool,
               splits: DecodedSplits | None = None) -> 'Input':
  """Opens a split by its metadata; `Input.load` or the first batch reads it.

  Args:
    data: the data set.
    split: in TFDS slicing syntax.
    train: for training; else for evaluation.
    splits: what earlier inputs of the same process have decoded.
  """
  return Input(data, open_source(data, split), train, splits or DecodedSplits())


class Input:
  """A split, ready to be read.

  Attributes:
    name, split, num_examples, num_classes, class_names: of the data set.
    mode: 'cached' or 'streaming'.
    stored_shape: (h, w, 3) of the uint8 images in the batches.
    label_shape: of one label: (), or (max_labels,) where labels are sets of classes.
    remaining: the preprocessing still to be done to them, by
      `vit_jax.preprocessing.device.augment`.
    bad_records: unreadable records that this process left out so far, a collection.
  """

  def __init__(self, data: DataSection, source: Source, train: bool,
               splits: DecodedSplits):
    self.name, self.split = source.name, source.split
    self.num_examples = source.num_examples
    self.num_classes, self.class_names = source.num_classes, source.class_names
    self.mode, self._plan = _choose_mode(data, source, train)
    self.stored_shape = (*self._plan.host_size, 3)
    self.label_shape = source.label_shape
    self.remaining = self._plan.remaining
    self.bad_records = BadRecords(data.max_bad_records)
    self._data, self._source, self._train = data, source, train
    self._splits = splits
    self._lock, self._backend = threading.Lock(), None

  def load(self):
    """Reads what is read before the first batch; from any thread, done once."""
    with self._lock:
      if self._backend is None:
        self._backend = self._make_backend()
    return self._backend

  def _make_backend(self):
    data = self._data
    if self.mode == 'cached':
      # The splits of `data` do not matter here, its keys and rules do.
      key = (dataclasses.replace(data, train_split='', val_split='', test_split=''),
             self._source.split, self._plan)
      split = self._splits.get(key, lambda: DecodedSplit(
          self._source, self._plan, data.max_bad_records, data.decode_threads))
      if self._train:
        self.bad_records.update(np.flatnonzero(~split.readable))
      return split
    stream = Stream(self._source, self._plan, self.bad_records, replace=self._train,
                    threads=data.decode_threads)
    stream.load()
    return stream

  def train_batches(self, seed: int, batch_size: int, rows, start_step: int = 0):
    """Yields {'image', 'label'} of steps start_step, start_step + 1, ... for ever.

    Args:
      seed: of the run.
      batch_size: of the global batch.
      rows: the rows of the global batch to return, an array of integers.
      start_step: the step whose batch comes first.
    """
    if not self._train:
      raise ValueError('train_batches needs open_input(..., train=True).')
    rows = np.asarray(rows, np.int64)
    examples = order.Order(self.num_examples, seed)
    backend = self.load()
    if self.mode == 'cached':
      step = start_step
      while True:
        records = backend.usable[examples.indices(step * batch_size + rows)]
        yield {'image': backend.images[records], 'label': backend.labels[records]}
        step += 1
    def chunk_at(step):
      positions = step * batch_size + rows
      seeds = np.stack([np.full_like(positions, seed), positions], 1)
      return Chunk(examples.indices(positions), seeds)
    for images, labels, _ in backend.chunks(chunk_at, start_step):
      yield {'image': images, 'label': labels}

  def num_eval_batches(self, batch_size: int) -> int:
    return order.num_eval_batches(self.num_examples, batch_size)

  def eval_batches(self, batch_size: int, rows):
    """Yields {'image', 'label', 'mask'}; every example once, in file order.

    Padding, and records left out as unreadable, have mask False. The number of
    batches depends on nothing but the number of examples and `batch_size`.
    """
    if self._train:
      raise ValueError('eval_batches needs open_input(..., train=False).')
    backend = self.load()
    def chunk_at(batch):
      records = order.eval_indices(batch, batch_size, rows, self.num_examples)
      return Chunk(records, np.zeros((len(records), 2), np.int64))
    count = self.num_eval_batches(batch_size)
    if self.mode == 'cached':
      for batch in range(count):
        yield self._cached_eval_batch(backend, chunk_at(batch).records)
      return
    for images, labels, filled in backend.chunks(chunk_at, 0, count):
      yield {'image': images, 'label': labels, 'mask': filled}

  def _cached_eval_batch(self, backend, records):
    mask = records >= 0
    readable = mask & backend.readable[records]
    # Every process decodes all records, but answers only for those of its rows:
    # the sum over processes must count a record once.
    self.bad_records.update(records[mask & ~readable])
    blank = ~readable
    images, labels = backend.images[records], backend.labels[records]
    images[blank], labels[blank] = 0, self._source.no_label
    return {'image': images, 'label': labels, 'mask': readable}


def _choose_mode(data, source, train):
  """('cached' or 'streaming', plan); needs no record to be read."""
  if data.cache not in ('auto', 'always', 'never'):
    raise UserError(f'config.data.cache={data.cache!r} is unknown, expected auto, '
                    'always or never.')
  section = data.train if train else data.eval
  if not train:
    preprocess.check_eval(section)
  make = preprocess.make_plan
  streaming = make(section, data.image_size, source.image_shape, cached=False)
  if data.cache == 'never':
    return 'streaming', streaming
  plan = make(section, data.image_size, source.image_shape, cached=True)
  if data.cache == 'always':
    if plan is None:
      raise UserError(
          f"config.data.cache='always' cannot be done for {source.name}: "
          + preprocess.why_not_cached(section))
    return 'cached', plan
  if plan is None or _bytes(plan, source) > data.cache_limit_gib * 2**30:
    return 'streaming', streaming
  return 'cached', plan


def _bytes(plan, source):
  return source.num_examples * plan.host_size[0] * plan.host_size[1] * 3
