"""A sweep's directory: whose it is, and where things are in it.

  sweep.json          the definition, extended by every call that adds to it
  cells/<id>/         one run each: its work directory, with `result.json` at its end
  logs/<id>.txt       what the run printed
  report.md, ...      see `report`
"""

import dataclasses
import json
import pathlib

from vit_jax.parallel import hosts
from vit_jax.runtime import files
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import definition as definition_lib
from vit_jax.sweep import locks
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import Definition
from vit_jax.sweep.results import Results

_SWEEP = 'sweep.json'


class Folder:
  """Paths under the directory of a sweep; making one changes nothing."""

  def __init__(self, path: str):
    self.path = pathlib.Path(path)
    self.results = Results(self.path / 'cells')

  def log(self, cell: Cell) -> pathlib.Path:
    return self.path / 'logs' / f'{cell.id}.txt'

  def read(self) -> Definition | None:
    """The definition of the sweep in this directory, None in a new one.

    Raises:
      UserError: if the directory is something else.
    """
    if self.path.exists() and not self.path.is_dir():
      raise UserError(f'--workdir={self.path} is a file; give a directory.')
    try:
      values = json.loads((self.path / _SWEEP).read_text(encoding='utf-8'))
      return definition_lib.from_json(values)
    except FileNotFoundError:
      pass
    except (OSError, ValueError, LookupError) as e:
      raise UserError(f'Cannot read {self.path / _SWEEP}: {e!r}') from e
    if self.path.exists() and any(
        not p.name.startswith('.') for p in self.path.iterdir()):
      raise UserError(
          f'--workdir={self.path} is not empty and holds no {_SWEEP}, so it is no '
          'directory of a sweep. Nothing was changed; give a new or empty directory.')
    return None

  def extended(self, definition: Definition) -> Definition:
    """The definition together with what the directory has; writes nothing."""
    before = self.read()
    if before is None:
      return definition
    return definition_lib.merge(before, definition, self.path)

  def claim(self, definition: Definition) -> Definition:
    """Makes the directory this sweep's, or extends the one that it holds.

    Returns:
      The extended definition, in which `asked` are the tasks of this call alone.
    """
    self.extended(definition)  # On every process: a mistake ends all of them.
    if hosts.is_main():
      with locks.hold(self.path, wait=True):
        whole = self.extended(definition)
        files.write_json(
            self.path / _SWEEP, definition_lib.to_json(whole))
        (self.path / 'logs').mkdir(exist_ok=True)
    hosts.barrier('sweep')
    return dataclasses.replace(self.read(), asked=definition.asked)
