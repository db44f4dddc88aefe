"""WORKDIR/checkpoints on a disk or in a bucket: what is unfinished, or is set aside.

On a disk Orbax gives a checkpoint its name when it is complete. A bucket renames
nothing: there a checkpoint is complete once it has the object `commit_success.txt`.
"""

import itertools
import pathlib
import shutil

from etils import epath

from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.storage.urls import PathLike

# Orbax's, in buckets.
_COMMITTED = 'commit_success.txt'


def check_writable(workdir: PathLike) -> None:
  """Raises UserError for a URL that Orbax cannot write to; to be called first."""
  if not storage.is_url(workdir):
    return
  if not storage.join(workdir).startswith('gs://'):
    scheme = storage.join(workdir).partition('://')[0]
    raise UserError(
        f'--workdir={workdir}: Orbax, which writes the checkpoints, cannot write to '
        f'{scheme}://. Give a folder on a disk that all hosts see, or '
        'gs://bucket/folder.')
  # Before Orbax uses a URL.
  storage.configure()


def of(workdir: PathLike) -> epath.Path:
  """The folder of a run's checkpoints; raises UserError as `check_writable`."""
  check_writable(workdir)
  if storage.is_url(workdir):
    return epath.Path(storage.join(workdir, 'checkpoints'))
  return epath.Path(pathlib.Path(workdir).absolute() / 'checkpoints')


def remove_unfinished(folder: epath.Path) -> None:
  """Removes what a killed process was writing.

  Raises:
    UserError: if it looks like checkpoints that were copied into a bucket.
  """
  if not storage.is_url(folder):
    for path in folder.glob('*.orbax-checkpoint-tmp*'):
      shutil.rmtree(path, ignore_errors=True)
    return
  steps = [name for name in storage.children(folder) if name.isdecimal()]
  unfinished = [name for name in steps
                if not storage.exists(storage.join(folder, name, _COMMITTED))]
  # A kill leaves one, unless there were others before.
  if unfinished == steps and len(steps) > 1:
    raise UserError(
        f'No checkpoint in {folder} has a {_COMMITTED}, without which one in a bucket '
        f'counts as unfinished: {", ".join(steps)}. Nothing was changed. If they were '
        'copied from a disk, add that file, empty, to each; else delete them.')
  for name in unfinished:
    storage.delete_tree(storage.join(folder, name))


def set_aside(path: epath.Path, good: epath.Path) -> None:
  """Takes a damaged checkpoint from those of its run, and says so.

  Args:
    path: of the damaged one.
    good: of the one that is used instead.
  """
  if storage.is_url(path):
    storage.write_text(f'{path}.corrupt', f'{path} was damaged; went on from {good}.\n')
    storage.delete(storage.join(path, _COMMITTED))
    warn(f'{path} counts no more, see {path}.corrupt; going on from {good} instead.')
    return
  names = (f'{path.name}.corrupt{n or ""}' for n in itertools.count())
  aside = next(new for name in names if not (new := path.with_name(name)).exists())
  path.rename(aside)
  warn(f'set aside as {aside}; going on from {good} instead.')
