"""Batches of a split, for training or for evaluation."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vit_jax.data import order
from vit_jax.data.bad_records import BadRecords
from vit_jax.data.chunks import Chunk, ChunkReader
from vit_jax.data.ordering import MakeOrder

# What each array of a batch is called -> rows of it.
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reader:
  """A split that is ready to be read.

  Attributes:
    images: what decodes its records.
    num_examples: of the split.
    make_order: of its examples in training.
    train: for training; else for evaluation.
    bad_records: unreadable records that this process left out so far.
  """
  images: ChunkReader
  num_examples: int
  make_order: MakeOrder
  train: bool
  bad_records: BadRecords

  def train_batches(self, seed: int, batch_size: int, rows: npt.ArrayLike,
                    start_step: int = 0) -> Iterator[Batch]:
    """Yields {'image', 'label'} of steps start_step, start_step + 1, ... for ever.

    Args:
      seed: of the run.
      batch_size: of the global batch.
      rows: the rows of the global batch to return, an array of integers.
      start_step: the step whose batch comes first.
    """
    if not self.train:
      raise ValueError('train_batches needs open_input(..., train=True).')
    rows = np.asarray(rows, np.int64)
    examples = self.make_order(seed, batch_size)
    def chunk_at(step: int) -> Chunk:
      positions = step * batch_size + rows
      seeds = np.stack([np.full_like(positions, seed), positions], 1)
      return Chunk(examples.indices(positions), seeds,
                   examples.ahead(step, batch_size, rows))
    for images, labels, _ in self.images.chunks(chunk_at, start_step):
      yield {'image': images, 'label': labels}

  def eval_batches(self, batch_size: int, rows: npt.ArrayLike) -> Iterator[Batch]:
    """Yields {'image', 'label', 'mask'}; every example once, in file order.

    Padding, and records left out as unreadable, have mask False. The number of
    batches depends on nothing but the number of examples and `batch_size`.
    """
    if self.train:
      raise ValueError('eval_batches needs open_input(..., train=False).')
    def chunk_at(batch: int) -> Chunk:
      records = order.eval_indices(batch, batch_size, rows, self.num_examples)
      return Chunk(records, np.zeros((len(records), 2), np.int64))
    count = order.num_eval_batches(self.num_examples, batch_size)
    for images, labels, filled in self.images.chunks(chunk_at, 0, count):
      yield {'image': images, 'label': labels, 'mask': filled}
