"""Reading, writing and listing by path; the package's docstring tells of paths."""

import json
from collections.abc import Callable
from typing import Any

from vit_jax.runtime.storage.disk import DiskPath
from vit_jax.runtime.storage.failures import StorageError
from vit_jax.runtime.storage.objects import ObjectPath
from vit_jax.runtime.storage.places import PATIENCE, Place, Stat
from vit_jax.runtime.storage.urls import PathLike, Url, parse

# No file of settings or measurements comes near.
_LARGEST_TEXT = 1 << 28


def read_bytes(path: PathLike, limit: int | None = None,
               timeout: float = PATIENCE) -> bytes:
  """A file's content.

  Raises:
    FileNotFoundError: if it is absent.
    StorageError: if it has more than `limit` bytes, or for whatever else goes wrong,
      as in every function here.
  """
  return _place(path).read(limit, timeout)


def read_text(path: PathLike, limit: int = _LARGEST_TEXT) -> str:
  """As `read_bytes`, for text."""
  try:
    return read_bytes(path, limit).decode()
  except UnicodeDecodeError as e:
    raise StorageError('read', path, f'it is no text in UTF-8 (byte {e.start})',
                       'Restore it, or move it away.') from e


def read_json(path: PathLike, limit: int = _LARGEST_TEXT) -> Any:
  """As `read_text`, for JSON; what it means is for the caller to check."""
  try:
    return json.loads(read_text(path, limit))
  except (ValueError, RecursionError) as e:
    reason = str(e) if isinstance(e, ValueError) else 'it is nested too deeply'
    raise StorageError('read', path, f'it is no JSON: {reason}',
                       'Restore it, or move it away.') from e


def write_bytes(path: PathLike, data: bytes, *, durable: bool = True,
                timeout: float = PATIENCE) -> None:
  """Writes a file that is complete or as it was, whenever we are killed.

  Args:
    path: on a disk its folder exists.
    data: the content.
    durable: on a disk, whether it has to outlive a machine that crashes now.
    timeout: seconds for an object store to answer.
  """
  _place(path).write(data, durable, timeout)


def write_text(path: PathLike, text: str) -> None:
  """As `write_bytes`, for text."""
  write_bytes(path, text.encode())


def write_json(path: PathLike, value: Any) -> None:
  """As `write_bytes`, for anything that JSON can hold."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def touch(path: PathLike, change: Callable[[bytes | None], bytes],
          timeout: float = PATIENCE) -> None:
  """Changes the version of a file, which a full disk allows, too.

  An object store does so by `update`; a disk leaves the content alone, and only shows
  it to `change`, which may raise whatever it wants.
  """
  _place(path).touch(change, timeout)


def create(path: PathLike, data: bytes, *, durable: bool = True,
           timeout: float = PATIENCE) -> bool:
  """Writes a file unless there is one; returns whether the file is ours.

  Of any number of processes on any machines one is told True, if their bytes differ:
  who finds the very bytes it was going to write takes them for its own, since answers
  of stores get lost. The file is never seen half written, except on disks without hard
  links.
  """
  return _place(path).create(data, durable, timeout)


def update(path: PathLike, change: Callable[[bytes | None], bytes],
           timeout: float = PATIENCE) -> bytes:
  """Replaces a file by what `change` makes of it, and returns that.

  Nothing is lost when several processes do so at once. `change` gets None for an absent
  file, and may be called again when another process was faster.
  """
  return _place(path).update(change, timeout)


def exists(path: PathLike, timeout: float = PATIENCE) -> bool:
  """Whether there is such a file; for folders see `is_folder`."""
  return _place(path).exists(timeout)


def is_folder(path: PathLike, timeout: float = PATIENCE) -> bool:
  """Whether there is such a folder, which in a store is never empty."""
  return _place(path).is_folder(timeout)


def stat(path: PathLike, timeout: float = PATIENCE) -> Stat:
  """Size and version of a file; raises FileNotFoundError."""
  return _place(path).stat(timeout)


def children(path: PathLike, timeout: float = PATIENCE) -> list[str]:
  """Sorted names of files and folders in a folder; none if it is absent."""
  return _place(path).children(timeout)


def below(path: PathLike, timeout: float = PATIENCE) -> list[str]:
  """Sorted names, with slashes, of all files in a folder and in those in it."""
  return _place(path).below(timeout)


def delete(path: PathLike, timeout: float = PATIENCE) -> None:
  """Deletes a file, if it is there."""
  _place(path).delete(timeout)


def delete_tree(path: PathLike, timeout: float = PATIENCE) -> None:
  """Deletes a folder with all that is in it, if it is there."""
  _place(path).delete_tree(timeout)


def make_folder(path: PathLike) -> None:
  """Makes a folder and those above it, where there are folders."""
  _place(path).make_folder()


def _place(path: PathLike) -> Place:
  place = parse(path)
  return ObjectPath(place) if isinstance(place, Url) else DiskPath(place)
