"""What a finished or failed cell leaves in its folder."""

import dataclasses
import json
import pathlib

from vit_jax.runtime import files
from vit_jax.runtime.errors import UserError
from vit_jax.sweep.cells import Cell

RESULT, ERROR = 'result.json', 'error.json'


@dataclasses.dataclass(frozen=True)
class Result:
  """Of a run that will not be repeated."""
  id: str
  task: str
  stage: str
  settings: dict
  seed: int
  # Of the last evaluation; empty if the run diverged.
  metrics: dict
  steps: int
  # Wall time of the call that ended the run.
  seconds: float
  # Whether earlier calls did a part of it.
  resumed: bool
  # Why the loss became infinite, or ''. Such a setting is never selected.
  diverged: str
  # Of the packages that the run used.
  versions: dict


class Results:
  """The finished cells under a folder; each is read once, as they never change."""

  def __init__(self, cells_folder: pathlib.Path):
    self._folder = cells_folder
    self._found = {}

  def folder(self, cell: Cell) -> pathlib.Path:
    return self._folder / cell.id

  def get(self, cell: Cell) -> Result | None:
    """The result of a cell, None while it has none."""
    if cell.id not in self._found:
      values = _read(self.folder(cell) / RESULT)
      if values is None:
        return None
      self._found[cell.id] = _from_json(values, self.folder(cell) / RESULT)
    return self._found[cell.id]

  def add(self, cell: Cell, result: Result):
    files.write_json(
        self.folder(cell) / RESULT, dataclasses.asdict(result))
    self._found[cell.id] = result

  def error(self, cell: Cell) -> dict | None:
    """The last failure, None if the cell has not failed or is finished."""
    if self.get(cell) is not None:
      return None
    return _read(self.folder(cell) / ERROR)

  def write_error(self, cell: Cell, error: dict):
    self.folder(cell).mkdir(parents=True, exist_ok=True)
    files.write_json(self.folder(cell) / ERROR, {
        'id': cell.id, 'task': cell.task, 'stage': cell.stage,
        'settings': cell.settings, 'seed': cell.seed, **error})

  def clear_error(self, cell: Cell):
    (self.folder(cell) / ERROR).unlink(missing_ok=True)

  def begun(self, cell: Cell) -> bool:
    """Whether there is a checkpoint to go on from."""
    # One that is being written has a longer name.
    return any(path.name.isdigit()
               for path in (self.folder(cell) / 'checkpoints').glob('*'))


def versions(folder: pathlib.Path) -> dict:
  """Of the packages, as the run in this folder has noted them."""
  return _read(folder / 'versions.json') or {}


def _from_json(values, path):
  try:
    return Result(**values)
  except TypeError as e:
    raise UserError(
        f'{path} is not a result of this version of vit_jax: {e}. Move the folder '
        'away to run the cell again.') from e


def _read(path):
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as e:
    raise UserError(f'Cannot read {path}: {e}. Move the file away to run the cell '
                    'again.') from e
