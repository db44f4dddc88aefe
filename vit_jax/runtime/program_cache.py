"""Compiled programs that several runs in one process share."""

import collections
import threading
from collections.abc import Hashable
from typing import Any, Protocol, TypeVar

T_co = TypeVar('T_co', covariant=True)

# Programs of one task: training, evaluation, initialisation; a few tasks' worth.
_SIZE = 24


class Program(Hashable, Protocol[T_co]):
  """What a program is built from; equal ones are the same program.

  A frozen dataclass whose fields are all that `build` looks at.
  """

  def build(self) -> T_co:
    """Compiles it."""
    ...


class ProgramCache:
  """The programs that were used last, each built once."""

  def __init__(self, size: int = _SIZE) -> None:
    """`size`: how many are kept."""
    self._lock = threading.Lock()
    self._built: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
    self._size = size

  def __contains__(self, program: Program[Any]) -> bool:
    with self._lock:
      return program in self._built

  def get(self, program: Program[T_co]) -> T_co:
    """What `program.build` returned when an equal one was first asked for."""
    with self._lock:
      if program in self._built:
        self._built.move_to_end(program)
        return self._built[program]
    # Not under the lock: one program may compile while another is looked up.
    built = program.build()
    with self._lock:
      self._built[program] = built
      while len(self._built) > self._size:
        self._built.popitem(last=False)
    return built
