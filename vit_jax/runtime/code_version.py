"""Which commit of this library is running."""

import functools
import os
import pathlib
import subprocess

# Set by whoever copied the code without its history.
VARIABLE = 'VIT_JAX_CODE_VERSION'


def current() -> str | None:
  """'<commit>' or '<commit>-dirty'; None for an installed copy that nobody named."""
  return os.environ.get(VARIABLE) or _of_this_copy()


@functools.cache
def _of_this_copy() -> str | None:
  return of_clone(pathlib.Path(__file__).resolve().parents[2])


def of_clone(folder: str | os.PathLike[str]) -> str | None:
  """The commit of a clone, with '-dirty' when files that git knows were changed.

  None where `folder` is no clone's top: an environment may lie inside of another
  project's clone.
  """
  if not (pathlib.Path(folder) / '.git').exists():
    return None
  try:
    done = subprocess.run(
        ['git', '-C', str(folder), 'describe', '--always', '--abbrev=40', '--dirty',
         '--exclude=*'], capture_output=True, text=True, check=True, timeout=30)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() or None
