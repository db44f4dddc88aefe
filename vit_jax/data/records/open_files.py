"""Files that are kept open, as many as the process may have."""

import collections
import os
import resource
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')

# Files beyond this gain nothing: opening one again costs 5 us.
_MOST = 512


class OpenFiles(Generic[T]):
  """The most recently used files, open; from any thread.

  A file that is dropped is closed once no thread reads it any more, when the last
  reference to it goes.
  """

  def __init__(self, open_file: Callable[[str], T], limit: int | None = None) -> None:
    """`limit`: how many stay open; None: a share of what the process may open."""
    self._open, self._limit = open_file, limit or default_limit()
    self._lock = threading.Lock()
    self._files: collections.OrderedDict[str, T] = collections.OrderedDict()

  def get(self, path: str) -> T:
    """The open file; raises what opening it raises."""
    with self._lock:
      if file := self._files.get(path):
        self._files.move_to_end(path)
        return file
    file = self._open(path)
    with self._lock:
      file = self._files.setdefault(path, file)
      while len(self._files) > self._limit:
        self._files.popitem(last=False)
    return file


class Descriptor:
  """A file on a disk, open for reading."""

  def __init__(self, path: str) -> None:
    self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

  def read(self, start: int, stop: int) -> bytes:
    """The bytes start..stop, fewer where the file ends earlier."""
    parts, at = [], start
    while at < stop:
      part = os.pread(self._number, stop - at, at)
      if not part:
        break
      parts.append(part)
      at += len(part)
    return parts[0] if len(parts) == 1 else b''.join(parts)

  def __del__(self) -> None:
    if hasattr(self, '_number'):
      os.close(self._number)


def default_limit() -> int:
  """An eighth of the descriptors that the process may have: inputs share them."""
  soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft == resource.RLIM_INFINITY:
    return _MOST
  return max(1, min(_MOST, soft // 8))
