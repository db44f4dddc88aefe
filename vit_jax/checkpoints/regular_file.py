"""Which paths are files whose reading ends."""

import os

from etils import epath


def is_file(path: epath.PathLike) -> bool:
  """Whether there is a file; `epath` takes a named pipe for one, too."""
  if '://' in str(path):
    return epath.Path(path).is_file()
  return os.path.isfile(path)
