"""Decoded splits that several runs in one process share."""

import collections
import threading
from collections.abc import Callable, Hashable

from vit_jax.data.cached import DecodedSplit


class DecodedSplits:
  """The splits that were used last, as far as they fit."""

  def __init__(self, limit_gib: float = 4.0) -> None:
    """`limit_gib`: how much decoded data may stay in memory between runs."""
    self._lock = threading.Lock()
    self._splits: collections.OrderedDict[Hashable, DecodedSplit] = (
        collections.OrderedDict())
    self._limit = limit_gib * 2**30

  def get(self, key: Hashable, decode: Callable[[], DecodedSplit]) -> DecodedSplit:
    """What `decode` returned when this key was first asked for."""
    with self._lock:
      if key in self._splits:
        self._splits.move_to_end(key)
        return self._splits[key]
    # Not under the lock: one split may be decoded while another is looked up.
    split = decode()
    with self._lock:
      self._splits[key] = split
      # The newest stays whatever its size: its run holds it anyway.
      while len(self._splits) > 1 and self._bytes() > self._limit:
        self._splits.popitem(last=False)
    return split

  def _bytes(self) -> int:
    return sum(split.images.nbytes for split in self._splits.values())
