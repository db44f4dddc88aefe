"""New files and folders that are either complete or absent, whenever we are killed.

Everything is written beside its target under a hidden name and renamed at the end.
An existing target is never overwritten.
"""

import contextlib
import os
import platform
import shutil

from etils import epath

from vit_jax.checkpoints.reaching import reachable
from vit_jax.runtime.errors import UserError

# Folders may be shared by machines, where a process of another one looks dead.
_HOST = platform.node()


def check_free(path):
  """Raises UserError unless something new can be written at `path`."""
  path = epath.Path(path)
  with reachable(path):
    exists = path.exists()
  if exists:
    raise UserError(
        f'{path} exists already and is never overwritten; remove it, or give '
        'another destination.')
  if _is_local(path) and not path.absolute().parent.is_dir():
    raise UserError(
        f'Cannot write {path}: there is no folder {path.parent}. Create it first.')


@contextlib.contextmanager
def new(path):
  """A path to write a file or a folder to.

  It becomes `path` when the block ends without an error, and nothing otherwise. Its
  ending is that of `path`.
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
    with reachable(path, verb='write'):
      temporary.rename(path)
  except OSError as e:
    raise UserError(f'Cannot write {path}: {e}') from e
  finally:
    with reachable(path, verb='write'):
      _remove(temporary)


def _remove_stale(path):
  """Removes what processes of this host left that were killed while writing."""
  prefix, suffix = f'.partial-{_HOST}-', f'-{path.name}'
  for old in path.parent.iterdir():
    pid = old.name.removeprefix(prefix).removesuffix(suffix)
    if old.name == f'{prefix}{pid}{suffix}' and pid.isdecimal() and _is_dead(int(pid)):
      _remove(old)


def _is_dead(pid):
  try:
    os.kill(pid, 0)  # asks only
  except ProcessLookupError:
    return True
  except OSError:
    return False  # someone else's
  # In restarted containers our own number is that of the process before.
  return pid == os.getpid()


def _remove(path):
  if path.is_dir():
    path.rmtree() if not _is_local(path) else shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _to_disk(path):
  # Object stores have no such notion; there, closing a file commits it.
  if not _is_local(path):
    return
  files = [path] if path.is_file() else [
      os.path.join(folder, file) for folder, _, inside in os.walk(path)
      for file in inside]
  for file in files:
    with open(file, 'rb') as opened:
      os.fsync(opened.fileno())


def _is_local(path):
  return '://' not in str(path)
