"""A run that is started again and again without progress comes to an end.

A launcher cannot tell a machine that was taken away from a step that needs too much
memory: both lose a process. But only the latter never reaches a new checkpoint.
"""

import hashlib
import json
import os

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.parallel import hosts
from vit_jax.runtime import code_version, json_files, storage
from vit_jax.runtime.errors import UserError, warn
from vit_jax.runtime.storage import StorageError
from vit_jax.runtime.storage.urls import PathLike

# Starts at one step that launchers allow; without it any number.
VARIABLE = 'VIT_JAX_MAX_STALLED_STARTS'
# A dot, for it says nothing about the run itself.
_FILE = '.starts.json'


def check(workdir: PathLike, config: Config, step: int) -> None:
  """Counts a start at `step`, the newest checkpoint; all processes must call it.

  Another configuration or code counts anew.

  Raises:
    UserError: on all processes, if there were too many starts in a row at this step.
  """
  problem = _count(workdir, config, step) if hosts.is_main() else ''
  if problem := hosts.broadcast(problem):
    raise UserError(problem)


def _count(workdir: PathLike, config: Config, step: int) -> str:
  """The error, '' if there is none; counts nothing unless a launcher asks for it."""
  limit = os.environ.get(VARIABLE, '')
  if not limit.isdigit() or not int(limit):
    return ''
  path = storage.join(workdir, _FILE)
  run = hashlib.sha256(json.dumps(
      [config_lib.to_dict(config), code_version.current()]).encode()).hexdigest()[:16]
  here = {'run': run, 'step': step}
  starts = _starts(path, here)
  if starts >= int(limit):
    return (f'{starts} starts in a row have not come from step {step} to a new '
            f'checkpoint in {workdir}. See why the last ones ended: too little memory, '
            'or config.checkpoint.every too high for how long the machines stay. '
            f'Change the settings, or delete {path} to try again as it is.')
  try:
    storage.write_json(path, {**here, 'starts': starts + 1})
  except StorageError as e:
    warn(f'{path} could not be written: {e.reason}; this start does not count')
  return ''


def _starts(path: str, here: dict[str, str | int]) -> int:
  """How many there were in a row at this step."""
  try:
    found = json_files.read_object(path, '')
  except (FileNotFoundError, UserError):
    return 0  # A damaged one: it is only a count.
  starts = found.get('starts')
  same = all(found.get(name) == value for name, value in here.items())
  return starts if same and type(starts) is int and starts > 0 else 0
