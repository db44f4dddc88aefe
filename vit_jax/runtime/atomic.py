"""New files and folders that are either complete or absent, whenever we are killed.

Everything is written beside its target under a hidden name and renamed at the end.
An existing target is never overwritten; small files that replace older ones are written
by `files`.
"""

import contextlib
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator

from etils import epath

from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error

# Folders may be shared by machines, where a process of another one looks dead.
_HOST = platform.node()


def check_free(path: epath.PathLike) -> None:
  """Raises UserError unless something new can be written at `path`."""
  path = epath.Path(path)
  with unreachable_is_an_error(path):
    exists = path.exists()
  if exists:
    raise UserError(
        f'{path} exists already and is never overwritten; remove it, or give '
        'another destination.')
  if _is_local(path) and not path.absolute().parent.is_dir():
    raise UserError(
        f'Cannot write {path}: there is no folder {path.parent}. Create it first.')


@contextlib.contextmanager
def new(path: epath.PathLike) -> Iterator[epath.Path]:
  """A path to write a file or a folder to.

  It becomes `path` when the block ends without an error, and nothing otherwise. Its
  ending is that of `path`.

  Raises:
    UserError: if there is something at `path`, or it cannot be written.
  """
  path = epath.Path(path)
  check_free(path)
  if _is_local(path):
    with contextlib.suppress(OSError):  # tidying up is no reason to stop
      _remove_stale(path)
  temporary = path.parent / f'.partial-{_HOST}-{os.getpid()}-{path.name}'
  try:
    yield temporary
    _to_disk(temporary)
    check_free(path)
    with unreachable_is_an_error(path, verb='write'):
      temporary.rename(path)
  except OSError as e:
    raise UserError(f'Cannot write {path}: {e}') from e
  finally:
    with unreachable_is_an_error(path, verb='write'):
      _remove(temporary)


def _remove_stale(path: epath.Path) -> None:
  """Removes what processes of this host left that were killed while writing."""
  prefix, suffix = f'.partial-{_HOST}-', f'-{path.name}'
  for old in path.parent.iterdir():
    pid = old.name.removeprefix(prefix).removesuffix(suffix)
    if old.name == f'{prefix}{pid}{suffix}' and pid.isdecimal() and _is_dead(int(pid)):
      _remove(old)


def _is_dead(pid: int) -> bool:
  try:
    os.kill(pid, 0)  # asks only
  except ProcessLookupError:
    return True
  except OSError:
    return False  # someone else's
  # In restarted containers our own number is that of the process before.
  return pid == os.getpid()


def _remove(path: epath.Path) -> None:
  if path.is_dir():
    path.rmtree() if not _is_local(path) else shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _to_disk(path: epath.Path) -> None:
  # Object stores have no such notion; there, closing a file commits it.
  if not _is_local(path):
    return
  top = pathlib.Path(path)
  files = [top] if top.is_file() else [x for x in top.rglob('*') if x.is_file()]
  for file in files:
    with open(file, 'rb') as opened:
      os.fsync(opened.fileno())


def _is_local(path: epath.Path) -> bool:
  return '://' not in str(path)
