"""A sweep's directory: whose it is, what is in it, and who is working in it.

  sweep.json          the definition, extended by every call that adds to it
  cells/<id>/         one run each: its work directory, with `result.json` at its end
  logs/<id>.txt       what the run printed
  report.md, ...      see `report`
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import random
import socket
import time
from collections.abc import Iterator
from typing import Any, TextIO

from vit_jax.parallel import hosts
from vit_jax.runtime import files, json_files, storage
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import definition
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition

_SWEEP, _RESULT, _ERROR = 'sweep.json', 'result.json', 'error.json'
# A dot, because a work directory may hold such files and be nobody's yet.
_LOCK = '.lock'
_ADVICE = 'Restore the file, or give another --workdir.'
_LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class SweepDirectory:
  """Paths under the directory of a sweep; making one changes nothing."""

  def __init__(self, path: str) -> None:
    """Raises UserError for a URL: the locks are those of a file system."""
    self.path = storage.local_path(path)
    self.results = CellResults(self.path / 'cells')

  def log(self, cell: Cell) -> pathlib.Path:
    return self.path / 'logs' / f'{cell.id}.txt'

  def read(self) -> SweepDefinition | None:
    """The definition of the sweep in this directory, None in a new one.

    Raises:
      UserError: if the directory is something else.
    """
    path = self.path / _SWEEP
    try:
      if self.path.exists() and not self.path.is_dir():
        raise UserError(f'--workdir={self.path} is a file; give a directory.')
      return definition.from_json(json_files.read_object(path, _ADVICE))
    except FileNotFoundError:
      in_use = self.path.exists() and any(
          not p.name.startswith('.') for p in self.path.iterdir())
    except OSError as e:
      raise UserError(f'Cannot use --workdir={self.path}: {e.strerror}. Give a '
                      'directory that you may read and write to.') from e
    except (ValueError, LookupError, TypeError, AttributeError) as e:
      raise UserError(f'{path} is not the definition of a sweep: {e!r}. {_ADVICE}'
                      ) from e
    if in_use:
      raise UserError(
          f'--workdir={self.path} is not empty and holds no {_SWEEP}, so it is no '
          'directory of a sweep. Nothing was changed; give a new or empty directory.')
    return None

  def read_existing(self) -> SweepDefinition:
    """`read`, where there must be one; raises UserError if there is none."""
    sweep = self.read()
    if sweep is None:
      raise UserError(f'--workdir={self.path} holds no sweep. Give the directory of a '
                      '`vit_jax sweep`.')
    return sweep

  def extended(self, sweep: SweepDefinition) -> SweepDefinition:
    """The definition together with what the directory has; writes nothing."""
    before = self.read()
    return sweep if before is None else definition.merge(before, sweep, self.path)

  def claim(self, sweep: SweepDefinition) -> SweepDefinition:
    """Makes the directory this sweep's, or extends the one that it holds.

    Returns:
      The extended definition, in which `asked` are the tasks of this call alone.
    """
    self.extended(sweep)  # On every process: a mistake ends all of them.
    if hosts.is_main():
      with hold_lock(self.path, wait=True):
        files.write_json(
            self.path / _SWEEP, definition.to_json(self.extended(sweep)))
        (self.path / 'logs').mkdir(exist_ok=True)
    hosts.barrier('sweep')
    return dataclasses.replace(self.read_existing(), asked=sweep.asked)


@dataclasses.dataclass(frozen=True)
class CellResult:
  """Of a run that will not be repeated."""
  id: str
  task: str
  stage: str
  settings: dict[str, Any]
  seed: int
  # Of the last evaluation; empty if the run diverged.
  metrics: dict[str, float]
  steps: int
  # Wall time of the call that ended the run.
  seconds: float
  # Whether earlier calls did a part of it.
  resumed: bool
  # Why the loss became infinite, or ''. Such a setting is never selected.
  diverged: str
  # Of the packages that the run used.
  versions: dict[str, str]


class CellResults:
  """The finished cells under a folder; each is read once, as they never change."""

  def __init__(self, cells_folder: pathlib.Path) -> None:
    self._folder = cells_folder
    self._found: dict[str, CellResult] = {}

  def folder(self, cell: Cell) -> pathlib.Path:
    return self._folder / cell.id

  def get(self, cell: Cell) -> CellResult | None:
    """The result of a cell, None while it has none."""
    if cell.id not in self._found:
      path = self.folder(cell) / _RESULT
      values = _read_json(path)
      if values is None:
        return None
      try:
        self._found[cell.id] = _result(values)
      except (TypeError, ValueError) as e:
        raise UserError(
            f'{path} is not a result of this version of vit_jax: {e}. Move the folder '
            'away to run the cell again.') from e
    return self._found[cell.id]

  def add(self, cell: Cell, result: CellResult) -> None:
    files.write_json(self.folder(cell) / _RESULT, dataclasses.asdict(result))
    self._found[cell.id] = result

  def error(self, cell: Cell) -> dict[str, Any] | None:
    """The last failure, None if the cell has not failed or is finished."""
    if self.get(cell) is not None:
      return None
    path = self.folder(cell) / _ERROR
    values = _read_json(path)
    if values is not None and not isinstance(values.get('message'), str):
      raise UserError(f'{path} does not say what failed. Remove the file.')
    return values

  def write_error(self, cell: Cell, error: dict[str, Any]) -> None:
    self.folder(cell).mkdir(parents=True, exist_ok=True)
    files.write_json(self.folder(cell) / _ERROR, {
        'id': cell.id, 'task': cell.task, 'stage': cell.stage,
        'settings': cell.settings, 'seed': cell.seed, **error})

  def clear_error(self, cell: Cell) -> None:
    (self.folder(cell) / _ERROR).unlink(missing_ok=True)

  def checkpoints(self, cell: Cell) -> pathlib.Path:
    return self.folder(cell) / 'checkpoints'

  def begun(self, cell: Cell) -> bool:
    """Whether there is a checkpoint to go on from."""
    # One that is being written has a longer name.
    return any(path.name.isdigit() for path in self.checkpoints(cell).glob('*'))

  def versions(self, cell: Cell) -> dict[str, str]:
    """Of the packages, as the run has noted them."""
    return _read_json(self.folder(cell) / 'versions.json') or {}


def _result(values: dict[str, Any]) -> CellResult:
  """Raises TypeError or ValueError if they are none."""
  result = CellResult(**values)
  kinds = {'id': str, 'task': str, 'stage': str, 'settings': dict, 'seed': int,
           'metrics': dict, 'steps': int, 'seconds': int | float, 'resumed': bool,
           'diverged': str, 'versions': dict}
  for name, kind in kinds.items():
    if not isinstance(getattr(result, name), kind):
      raise ValueError(f'{name} is {getattr(result, name)!r}')
  for name, value in result.metrics.items():
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise ValueError(f'the metric {name} is {value!r}')
  return result


def _read_json(path: pathlib.Path) -> dict[str, Any] | None:
  """None if there is no such file."""
  try:
    return json_files.read_object(path, 'Move the file away to run the cell again.')
  except FileNotFoundError:
    return None


class LockedError(Exception):
  """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def hold_lock(folder: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
  """Holds the lock of a folder, making the folder.

  The system releases the lock when the process dies, on a shared file system when the
  server notices. The file stays: whoever deleted it would let two processes hold locks
  on two files of this name.

  Raises:
    LockedError: if another process holds it, unless `wait`.
    UserError: if the file system has no locks or no room.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / _LOCK, 'a+', encoding='utf-8')
  except OSError as e:
    raise UserError(f'Cannot write to {folder}: {e.strerror}. Give a --workdir that '
                    'you may write to.') from e
  with file:
    try:
      _lock(file, wait)
    except OSError as e:
      raise _no_locks(folder, e) from e
    file.seek(0)
    file.truncate()
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    yield


def is_locked(folder: pathlib.Path) -> bool:
  """Whether another process holds the lock of a folder; changes nothing there.

  For a moment it has a shared lock, which `hold_lock` does not take for an owner's.
  """
  try:
    with open(folder / _LOCK, encoding='utf-8') as file:
      return not _is_shared(file)
  except FileNotFoundError:
    return False
  except OSError as e:
    raise _no_locks(folder, e) from e


def _lock(file: TextIO, wait: bool) -> None:
  """Locks the file for its owner, see `hold_lock`; other failures are OSErrors."""
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
      return
    except OSError as e:
      if e.errno not in _LOCKED:
        raise
      if not _is_shared(file):
        raise LockedError(_owner(file)) from e
    # Somebody was looking, or trying as well.
    time.sleep(random.uniform(0, 0.01))


def _is_shared(file: TextIO) -> bool:
  """Whether nobody owns the lock of an open file; others may look at the same time."""
  try:
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except OSError as e:
    if e.errno not in _LOCKED:
      raise
    return False
  fcntl.flock(file, fcntl.LOCK_UN)
  return True


def _no_locks(folder: pathlib.Path, e: OSError) -> UserError:
  return UserError(
      f'Cannot lock {folder / _LOCK}: {e.strerror}. Workers of a sweep guard their '
      'runs by locks on files; give a --workdir on a file system that has them.')


def _owner(file: TextIO) -> str:
  file.seek(0)
  return file.read().strip() or 'another process'
