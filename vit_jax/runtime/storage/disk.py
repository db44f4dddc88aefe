"""Files on disks, local ones and those of several machines."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

from vit_jax.runtime.storage import failures
from vit_jax.runtime.storage.failures import StorageError
from vit_jax.runtime.storage.places import Stat

# Of files that are being written.
_PARTIAL = '.partial-'
# What a file system without hard links says.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclasses.dataclass(frozen=True)
class DiskPath:
  """A `Place`; time-outs are the file system's own."""
  path: pathlib.Path

  def read(self, limit: int | None, timeout: float) -> bytes:
    with self._told('read', absent_too=False):
      data = _read(self.path, limit)
    if limit is not None and len(data) > limit:
      raise too_large(self.path, limit)
    return data

  def write(self, data: bytes, durable: bool, timeout: float) -> None:
    with self._told('write to'):
      write_whole(self.path, data, durable)

  def touch(self, change: Callable[[bytes | None], bytes], timeout: float) -> None:
    with self._told('write to'):
      change(_content(self.path))
      os.utime(self.path)

  def create(self, data: bytes, durable: bool, timeout: float) -> bool:
    with self._told('write to'):
      return _create(self.path, data, durable)

  def update(self, change: Callable[[bytes | None], bytes], timeout: float) -> bytes:
    with self._told('write to'), _locked(self.path):
      old = _content(self.path)
      new = change(old)
      if new != old:
        write_whole(self.path, new)
      return new

  def exists(self, timeout: float) -> bool:
    with self._told('read'):
      return self.path.is_file()

  def is_folder(self, timeout: float) -> bool:
    with self._told('read'):
      return self.path.is_dir()

  def stat(self, timeout: float) -> Stat:
    with self._told('read', absent_too=False):
      found = self.path.stat()
    return Stat(found.st_size, f'{found.st_mtime_ns}-{found.st_ino}', found.st_mtime)

  def children(self, timeout: float) -> list[str]:
    with self._told('list'), contextlib.suppress(FileNotFoundError):
      return sorted(name for name in os.listdir(self.path)
                    if not name.startswith(_PARTIAL))
    return []

  def below(self, timeout: float) -> list[str]:
    with self._told('list'):
      found = [os.path.relpath(os.path.join(folder, name), self.path)
               for folder, _, names in os.walk(self.path, onerror=_raise_unless_absent)
               for name in names if not name.startswith(_PARTIAL)]
    return sorted(name.replace(os.sep, '/') for name in found)

  def delete(self, timeout: float) -> None:
    with self._told('delete'):
      self.path.unlink(missing_ok=True)

  def delete_tree(self, timeout: float) -> None:
    with self._told('delete'), contextlib.suppress(FileNotFoundError):
      if self.path.is_dir() and not self.path.is_symlink():
        shutil.rmtree(self.path)
      else:
        self.path.unlink()

  def make_folder(self) -> None:
    with self._told('write to'):
      self.path.mkdir(parents=True, exist_ok=True)

  @contextlib.contextmanager
  def _told(self, verb: str, absent_too: bool = True) -> Iterator[None]:
    try:
      yield
    except StorageError:
      raise
    except OSError as e:
      if isinstance(e, FileNotFoundError) and not absent_too:
        raise
      raise failures.of_disk(verb, self.path, e) from e
    except ValueError as e:  # A zero byte in its name.
      raise StorageError(verb, self.path, str(e), 'Check the path.') from e


def _read(path: pathlib.Path, limit: int | None) -> bytes:
  for last in (False, False, True):
    try:
      with path.open('rb') as file:
        return file.read() if limit is None else file.read(limit + 1)
    except OSError as e:
      # NFS, of a file that was replaced while it was read.
      if e.errno != errno.ESTALE or last:
        raise
  raise AssertionError


def too_large(path: object, limit: int) -> StorageError:
  return StorageError(
      'read', path, f'it has more than {limit} bytes, and no file of its kind has',
      'Check that it is what it should be.')


def write_whole(path: pathlib.Path, data: bytes, durable: bool = True) -> None:
  """Writes a file that is either complete or as it was, whenever we are killed.

  Args:
    path: its folder exists.
    data: the content.
    durable: whether it has to outlive a machine that crashes now.

  Raises:
    OSError: if it cannot be written; then it is as it was.
  """
  temporary = _written(path, data, durable)
  try:
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise


def _create(path: pathlib.Path, data: bytes, durable: bool) -> bool:
  temporary = _written(path, data, durable)
  try:
    # Unlike an exclusive `open`, this gives the name to a complete file, and is atomic
    # on every NFS.
    os.link(temporary, path)
    return True
  except FileExistsError:
    # Over a network the answer to a first try may have been lost.
    return _content(path) == data
  except OSError as e:
    if e.errno not in _NO_LINKS:
      raise
    return _create_without_links(path, data)
  finally:
    os.unlink(temporary)


def _create_without_links(path: pathlib.Path, data: bytes) -> bool:
  try:
    file = open(path, 'xb')
  except FileExistsError:
    return False
  try:
    with file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
  except BaseException:
    path.unlink(missing_ok=True)
    raise
  return True


def _content(path: pathlib.Path) -> bytes | None:
  try:
    return _read(path, None)
  except FileNotFoundError:
    return None


def _written(path: pathlib.Path, data: bytes, durable: bool) -> str:
  """A new file beside `path`."""
  descriptor, temporary = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
  try:
    with os.fdopen(descriptor, 'wb') as file:
      file.write(data)
      file.flush()
      if durable:
        os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
  except BaseException:
    os.unlink(temporary)
    raise
  return temporary


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
  """Holds a lock beside `path`; the system takes it from a process that dies."""
  lock = path.parent / f'.{path.name}.lock'
  with open(lock, 'ab') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as e:
      raise StorageError(
          'lock', lock, e.strerror or str(e),
          'Give a folder on a file system that has locks.') from e
    yield


def _raise_unless_absent(error: OSError) -> None:
  if not isinstance(error, FileNotFoundError):
    raise error
