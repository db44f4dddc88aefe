"""Which checkpoint a run goes on from: the newest one that is whole."""

import jax
from etils import epath

from vit_jax.checkpoints import directory
from vit_jax.checkpoints.store import Store
from vit_jax.config.sections import CheckpointSection
from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.storage.urls import PathLike


def find(workdir: PathLike, section: CheckpointSection) -> int:
  """The newest step whose checkpoint is whole, 0 without any checkpoint.

  Damaged ones that are newer are set aside, see `directory`, and reported. All
  processes must call it; each reads a part of the files.

  Raises:
    UserError: if there are checkpoints, and all of them are damaged.
  """
  store = Store(workdir, section, read_only=True)
  try:
    steps = store.steps()
  finally:
    store.close()
  damaged = []
  for step in reversed(steps):
    problem = store.damage(step, (jax.process_index(), jax.process_count()))
    if problem:
      warn(f'the checkpoint {store.path(step)} is damaged: {problem}.')
    if not hosts.anywhere(bool(problem)):
      _set_aside([store.path(step) for step in damaged], store.path(step))
      return step
    damaged.append(step)
  if damaged:
    raise UserError(
        f'All checkpoints in {store.path(steps[0]).parent} are damaged: '
        f'{", ".join(map(str, steps))}. Nothing was changed. Restore them from a '
        'backup, or delete them to start from the beginning.')
  return 0


def _set_aside(paths: list[epath.Path], good: epath.Path) -> None:
  if not paths:
    return
  if hosts.is_main():
    for path in paths:
      directory.set_aside(path, good)
  hosts.barrier('set_aside')
