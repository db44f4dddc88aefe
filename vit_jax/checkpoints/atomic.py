"""New files and folders that are either complete or absent, whenever we are killed.

Everything is written beside its target under a hidden name and renamed at the end.
An existing target is never overwritten.
"""

import contextlib
import os
import shutil

from etils import epath

from vit_jax.errors import UserError


def check_free(path):
  """Raises UserError unless something new can be written at `path`."""
  path = epath.Path(path)
  if path.exists():
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
  temporary = path.parent / f'.partial-{os.getpid()}-{path.name}'
  try:
    yield temporary
    _to_disk(temporary)
    check_free(path)
    temporary.rename(path)
  except OSError as e:
    raise UserError(f'Cannot write {path}: {e}') from e
  finally:
    if temporary.is_dir():
      temporary.rmtree() if not _is_local(path) else shutil.rmtree(temporary)
    else:
      temporary.unlink(missing_ok=True)


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
