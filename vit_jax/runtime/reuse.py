"""What several runs in one process share: compiled programs and decoded splits."""

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Any

from vit_jax.data.decoded_splits import DecodedSplits

# Programs of one task: training, evaluation, initialisation; a few tasks' worth.
_PROGRAMS = 24


class Reuse:
  """Kept by whoever calls `train` more than once, and handed to every call.

  Decoded splits are found in `splits`.

  Programs are found by everything they depend on, see `job.program_config`; so runs
  that differ in rates, schedule, length, seed or data alone compile once. The least
  recently used are dropped.
  """

  def __init__(self, splits_gib: float = 4.0):
    """`splits_gib`: how much decoded data may stay in memory between runs."""
    self._lock = threading.Lock()
    self._programs = collections.OrderedDict()
    self.splits = DecodedSplits(splits_gib)

  def program(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` returned when this key was first asked for."""
    with self._lock:
      if key in self._programs:
        self._programs.move_to_end(key)
        return self._programs[key]
    # Not under the lock: programs compile beside each other.
    program = make()
    with self._lock:
      self._programs[key] = program
      while len(self._programs) > _PROGRAMS:
        self._programs.popitem(last=False)
    return program
