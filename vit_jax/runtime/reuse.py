"""What several runs in one process share: compiled programs and decoded splits."""

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any

# Programs of one task: training, evaluation, initialisation; a few tasks' worth.
_PROGRAMS = 24


class Reuse:
  """Kept by whoever calls `train` more than once, and handed to every call.

  Programs are found by everything they depend on, see `job.program_config`; so runs
  that differ in rates, schedule, length, seed or data alone compile once. The least
  recently used are dropped.
  """

  def __init__(self, splits_gib: float = 4.0):
    """`splits_gib`: how much decoded data may stay in memory between runs."""
    self._lock = threading.Lock()
    self._programs = collections.OrderedDict()
    self._splits = collections.OrderedDict()
    self._limit = splits_gib * 2**30

  def program(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` returned when this key was first asked for."""
    return self._get(self._programs, key, make, self._drop_programs)

  def split(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """As `program`, for a decoded split with an attribute `images`."""
    return self._get(self._splits, key, make, self._drop_splits)

  def _get(self, kept, key, make, drop):
    with self._lock:
      if key in kept:
        kept.move_to_end(key)
        return kept[key]
    # Not under the lock: programs compile while splits are decoded.
    value = make()
    with self._lock:
      kept[key] = value
      drop()
    return value

  def _drop_programs(self):
    while len(self._programs) > _PROGRAMS:
      self._programs.popitem(last=False)

  def _drop_splits(self):
    # The newest stays whatever its size: its run holds it anyway.
    while len(self._splits) > 1 and self._bytes() > self._limit:
      self._splits.popitem(last=False)

  def _bytes(self):
    return sum(split.images.nbytes for split in self._splits.values())
