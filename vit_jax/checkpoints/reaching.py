"""Files behind a URL, whose every file system has exceptions of its own."""

import contextlib

from vit_jax.runtime.errors import UserError


@contextlib.contextmanager
def reachable(path, damage: tuple = (), verb: str = 'read'):
  """Makes a UserError of what goes wrong in the block, if `path` is a URL.

  Args:
    path: what the block reads or writes, and nothing else.
    damage: exceptions that speak of the file's content; they pass, as does the
      absence of the file.
    verb: what the block does.
  """
  try:
    yield
  except (UserError, FileNotFoundError):
    raise
  except Exception as e:
    # TensorFlow's errors of object stores, for one, are no OSErrors.
    about_content = isinstance(e, damage) and not isinstance(e, OSError)
    if '://' not in str(path) or about_content:
      raise
    raise UserError(
        f'Cannot {verb} {path}: {e}. Check the URL, the connection and your '
        'credentials.') from e


@contextlib.contextmanager
def readable(path, damage: tuple, kind: str, advice: str):
  """Makes a UserError of every exception of a block that reads a checkpoint file.

  Args:
    path: the file.
    damage: exceptions that speak of the file's content.
    kind: what the file should be, such as 'npz file'.
    advice: what was expected, and what to do.
  """
  try:
    with reachable(path, damage):
      yield
  except FileNotFoundError as e:
    raise UserError(f'No file {path}; give an existing checkpoint.') from e
  except damage as e:
    raise UserError(f'{path} is not a readable {kind}: {e}. {advice}') from e
