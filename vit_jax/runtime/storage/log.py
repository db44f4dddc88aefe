"""A text file that grows, also where files cannot grow."""

import pathlib
from typing import TextIO

from vit_jax.runtime.storage import access, failures
from vit_jax.runtime.storage.urls import PathLike, Url, parse


class Log:
  """Appends to a file.

  On a disk every `append` is there at once. An object store replaces a file whole, so
  there what was appended is kept in memory until `commit`; whoever is killed loses what
  came after the last one.
  """

  def __init__(self, path: PathLike) -> None:
    """Goes on with what the file has."""
    self._path = path
    self._file: TextIO | None = None
    self._parts: list[str] = []
    self._dirty = False
    place = parse(path)
    if isinstance(place, Url):
      self._parts = _whole(path)
    else:
      self._file = _opened(place)

  def append(self, text: str) -> None:
    """Raises StorageError if a disk does not take it."""
    if self._file is None:
      self._parts.append(text)
      self._dirty = True
      return
    try:
      self._file.write(text)
      self._file.flush()
    except OSError as e:
      raise failures.of_disk('write to', self._path, e) from e

  def commit(self) -> None:
    """Writes what a store lacks; raises StorageError, and may be called again then."""
    if self._dirty:
      self._parts = [''.join(self._parts)]
      access.write_text(self._path, self._parts[0])
      self._dirty = False

  def close(self) -> None:
    self.commit()
    if self._file is not None:
      self._file.close()


def _whole(path: PathLike) -> list[str]:
  try:
    return [access.read_text(path)]
  except FileNotFoundError:
    return []


def _opened(path: pathlib.Path) -> TextIO:
  try:
    return path.open('a', encoding='utf-8')
  except OSError as e:
    raise failures.of_disk('write to', path, e) from e
