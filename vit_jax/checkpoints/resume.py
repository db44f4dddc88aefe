"""Which checkpoint a run goes on from: the newest one that is whole."""

import itertools
import os
import pathlib

import jax

from vit_jax.checkpoints.store import Store
from vit_jax.config.sections import CheckpointSection
from vit_jax.parallel import hosts
from vit_jax.runtime.errors import UserError, warn


def find(workdir: str | os.PathLike[str], section: CheckpointSection) -> int:
  """The newest step whose checkpoint is whole, 0 without any checkpoint.

  Damaged ones that are newer are renamed to `<step>.corrupt`, and reported. All
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


def _set_aside(paths: list[pathlib.Path], good: pathlib.Path) -> None:
  if not paths:
    return
  if hosts.is_main():
    for path in paths:
      names = (f'{path.name}.corrupt{n or ""}' for n in itertools.count())
      aside = next(new for name in names if not (new := path.with_name(name)).exists())
      path.rename(aside)
      warn(f'set aside as {aside}; going on from {good} instead.')
  hosts.barrier('set_aside')
