"""Decoded splits, and those that several runs of a process share."""

import collections
import dataclasses
import threading
from collections.abc import Callable

import numpy as np

from vit_jax.config.sections import DataSection
from vit_jax.preprocessing.placement import Placement


@dataclasses.dataclass(frozen=True)
class DecodedSplit:
  """A split in memory.

  Attributes:
    images: (N, h, w, 3) uint8.
    labels: (N, *label shape) int32.
    readable: (N,) which records could be read; the others are blank.
    usable: (N,) for each record the one that training uses, mostly itself.
  """
  images: np.ndarray
  labels: np.ndarray
  readable: np.ndarray
  usable: np.ndarray


@dataclasses.dataclass(frozen=True)
class SplitKey:
  """Everything that a decoded split depends on."""
  data: DataSection
  split: str
  placement: Placement


def split_key(data: DataSection, split: str, placement: Placement) -> SplitKey:
  """The key of one split of a data set, whatever splits a run has."""
  data = dataclasses.replace(data, train_split='', val_split='', test_split='')
  return SplitKey(data, split, placement)


class DecodedSplits:
  """Keeps decoded splits; the least recently used are dropped."""

  def __init__(self, limit_gib: float = 4.0) -> None:
    """`limit_gib`: how much decoded data may stay in memory."""
    self._limit = limit_gib * 2**30
    self._lock = threading.Lock()
    self._kept: collections.OrderedDict[SplitKey, DecodedSplit] = (
        collections.OrderedDict())

  def get(self, key: SplitKey, decode: Callable[[], DecodedSplit]) -> DecodedSplit:
    """What `decode` returned when this key was first asked for; from any thread."""
    # All of it under the lock: decoding takes every core, one split at a time, and
    # who asks for the same split waits instead of decoding it, too.
    with self._lock:
      if key not in self._kept:
        self._kept[key] = decode()
      self._kept.move_to_end(key)
      # The newest stays whatever its size: its run holds it anyway.
      while len(self._kept) > 1 and self._bytes() > self._limit:
        self._kept.popitem(last=False)
      return self._kept[key]

  def _bytes(self) -> int:
    return sum(split.images.nbytes for split in self._kept.values())
