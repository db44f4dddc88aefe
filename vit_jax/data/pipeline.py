"""`open_input`: one split as the input of training or evaluation.

A batch is a pure function of (seed, step, configuration), and evaluation visits
every example once; see `order.py`. Both hold whether images are cached or streamed.
"""

import dataclasses
from typing import Literal

from vit_jax.config import settings
from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import cached
from vit_jax.data.bad_records import BadRecords
from vit_jax.data.chunks import ChunkReader
from vit_jax.data.decoded_splits import DecodedSplits, split_key
from vit_jax.data.ordering import choose_order
from vit_jax.data.reader import Reader
from vit_jax.data.sources import Source, open_source
from vit_jax.data.streaming import Stream
from vit_jax.preprocessing import placement
from vit_jax.preprocessing.placement import Placement
from vit_jax.runtime.errors import UserError

Mode = Literal['cached', 'streaming']


@dataclasses.dataclass(frozen=True)
class Input:
  """A split as its metadata describe it; `start` reads it.

  Attributes:
    data: the data set.
    source: the examples of the split.
    train: for training; else for evaluation.
    mode: 'cached' or 'streaming'.
    placement: where its images are preprocessed.
    splits: where it is kept if it is cached.
  """
  data: DataSection
  source: Source
  train: bool
  mode: Mode
  placement: Placement
  splits: DecodedSplits

  @property
  def name(self) -> str:
    return self.source.name

  @property
  def split(self) -> str:
    return self.source.split

  @property
  def num_examples(self) -> int:
    return self.source.num_examples

  @property
  def num_classes(self) -> int:
    return self.source.num_classes

  @property
  def class_names(self) -> list[str]:
    return self.source.class_names

  @property
  def label_shape(self) -> tuple[int, ...]:
    """Of one label: (), or (max_labels,) where labels are sets of classes."""
    return self.source.label_shape

  @property
  def stored_shape(self) -> tuple[int, int, int]:
    """(h, w, 3) of the uint8 images in the batches."""
    return (*self.placement.host_size, 3)

  @property
  def remaining(self) -> PreprocessSection:
    """What `vit_jax.preprocessing.device.augment` is still to do to them."""
    return self.placement.remaining

  def start(self) -> Reader:
    """Reads what is read before the first batch, from any thread.

    A cached split is decoded once for all that share `splits`.

    Raises:
      DataError: for files that are missing, cut off or inconsistent, and for too
        many unreadable records.
    """
    bad_records = BadRecords(self.data.max_bad_records)
    images = (self._cached if self.mode == 'cached' else self._streamed)(bad_records)
    return Reader(images, self.num_examples, choose_order(self.data, self.source),
                  self.train, bad_records)

  def _cached(self, bad_records: BadRecords) -> ChunkReader:
    split = self.splits.get(
        split_key(self.data, self.split, self.placement),
        lambda: cached.decode_split(self.source, self.placement,
                                    self.data.max_bad_records,
                                    self.data.decode_threads))
    return cached.CachedChunks(
        split, self.source.no_label, bad_records, replace=self.train)

  def _streamed(self, bad_records: BadRecords) -> ChunkReader:
    return Stream(self.source, self.placement, bad_records, replace=self.train,
                  threads=self.data.decode_threads)


def open_input(data: DataSection, split: str, *, train: bool,
               splits: DecodedSplits | None = None) -> Input:
  """Opens a split by its metadata; `Input.start` reads it.

  Args:
    data: the data set.
    split: in TFDS slicing syntax.
    train: for training; else for evaluation.
    splits: what earlier inputs of the same process have decoded.

  Raises:
    UserError: for a data set, split or preprocessing that cannot be.
  """
  return input_of(data, open_source(data, split), train=train, splits=splits)


def input_of(data: DataSection, source: Source, *, train: bool,
             splits: DecodedSplits | None = None) -> Input:
  """As `open_input`, for a split that is open."""
  mode, placed = _choose_mode(data, source, train)
  return Input(data, source, train, mode, placed, splits or DecodedSplits())


def _choose_mode(data: DataSection, source: Source,
                 train: bool) -> tuple[Mode, Placement]:
  """Needs no record to be read."""
  settings.check_value(
      settings.declared(DataSection)['cache'], 'data.cache', data.cache)
  section = data.train if train else data.eval
  if not train:
    placement.check_not_random(section)
  given = section, data.image_size, source.image_shape
  cached_placement = placement.place_cached(*given)
  if data.cache == 'always' and cached_placement is None:
    raise UserError(
        f"config.data.cache='always' cannot be done for {source.name}: "
        + placement.why_not_cached(section))
  if cached_placement and (data.cache == 'always' or (
      data.cache == 'auto' and _fits(cached_placement, data, source))):
    return 'cached', cached_placement
  return 'streaming', placement.place_streamed(*given)


def _fits(placed: Placement, data: DataSection, source: Source) -> bool:
  height, width = placed.host_size
  return source.num_examples * height * width * 3 <= data.cache_limit_gib * 2**30
