"""What goes wrong with a file, as a `UserError`: it can't be reached, or is damaged."""

import contextlib
from collections.abc import Iterator

from etils import epath

from vit_jax.runtime.errors import UserError


@contextlib.contextmanager
def unreachable_is_an_error(
    path: epath.PathLike, damage: tuple[type[Exception], ...] = (),
    verb: str = 'read') -> Iterator[None]:
  """Makes a UserError of what goes wrong in the block, if `path` is a URL.

  Every file system behind a URL has exceptions of its own.

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
def damage_is_an_error(
    path: epath.PathLike, damage: tuple[type[Exception], ...], kind: str,
    advice: str) -> Iterator[None]:
  """Makes a UserError of every exception of a block that reads a file.

  Args:
    path: the file.
    damage: exceptions that speak of the file's content.
    kind: what the file should be, such as 'npz file'.
    advice: what was expected, and what to do.
  """
  try:
    with unreachable_is_an_error(path, damage):
      yield
  except FileNotFoundError as e:
    raise UserError(f'No file {path}; give an existing checkpoint.') from e
  except damage as e:
    raise UserError(f'{path} is not a readable {kind}: {e}. {advice}') from e
