"""What can be done to one file or folder, wherever it is."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

# Seconds after which a store that gives no answer is given up.
PATIENCE = 120.0


@dataclasses.dataclass(frozen=True)
class Stat:
  """A file's size, and what changes whenever its content does."""
  size: int
  version: str
  modified: float  # seconds since 1970, by the clock of the file's machine or store


class Place(Protocol):
  """See `access` for what each does.

  Raises:
    FileNotFoundError: from `read` and `stat`, if it is absent.
    StorageError: from all, for whatever else goes wrong.
  """

  def read(self, limit: int | None, timeout: float) -> bytes: ...

  def write(self, data: bytes, durable: bool, timeout: float) -> None: ...

  def touch(self, change: Callable[[bytes | None], bytes], timeout: float) -> None: ...

  def create(self, data: bytes, durable: bool, timeout: float) -> bool: ...

  def update(self, change: Callable[[bytes | None], bytes],
             timeout: float) -> bytes: ...

  def exists(self, timeout: float) -> bool: ...

  def is_folder(self, timeout: float) -> bool: ...

  def stat(self, timeout: float) -> Stat: ...

  def children(self, timeout: float) -> list[str]: ...

  def below(self, timeout: float) -> list[str]: ...

  def delete(self, timeout: float) -> None: ...

  def delete_tree(self, timeout: float) -> None: ...

  def make_folder(self) -> None: ...
