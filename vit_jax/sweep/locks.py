"""One worker at a time: a lock on a file, which ends with its process."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket

from vit_jax.runtime.errors import UserError

_FILE = '.lock'
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Taken(Exception):
  """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def hold(folder: pathlib.Path, *, wait: bool = False):
  """Holds the lock of a folder, making the folder.

  The system releases the lock when the process dies, on a shared file system when the
  server notices. The file stays: whoever deleted it would let two processes hold locks
  on two files of this name.

  Raises:
    Taken: if another process holds it, unless `wait`.
    UserError: if the file system has no locks or no room.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    # A dot, because a work directory may hold such files and be nobody's yet.
    file = open(folder / _FILE, 'a+', encoding='utf-8')
  except OSError as e:
    raise UserError(f'Cannot write to {folder}: {e.strerror}. Give a --workdir that '
                    'you may write to.') from e
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as e:
      if e.errno in _TAKEN:
        raise Taken(_owner(file)) from e
      raise UserError(
          f'Cannot lock {folder / _FILE}: {e.strerror}. Workers of a sweep guard their '
          'runs by locks on files; give a --workdir on a file system that has them.'
      ) from e
    file.seek(0)
    file.truncate()
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    yield


def _owner(file):
  file.seek(0)
  return file.read().strip() or 'another process'
