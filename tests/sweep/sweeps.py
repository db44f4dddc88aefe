"""A tiny sweep for the tests, and results that nobody had to train for."""

import pathlib
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.sweep import definition, loading
from vit_jax.sweep.cells import Cell
from vit_jax.sweep.definition import SweepDefinition
from vit_jax.sweep.directory import CellResult, CellResults

# As a user would write it; a run takes a second.
CONFIG = textwrap.dedent('''
    from ml_collections import ConfigDict

    def get_config():
      return ConfigDict(dict(
          total_steps=4, batch_size=16, log_every=2,
          model=dict(variant='', patch_size=(4, 4), width=16, depth=1, mlp_dim=32,
                     num_heads=2, pool='gap'),
          data=dict(name='digits', image_size=(8, 8), test_split='test[:40]'),
          optimizer=dict(name='sgd', learning_rate=0.1),
          checkpoint=dict(every=2, keep=1)))

    def task(train, group):
      search = {'data.train_split': train, 'data.val_split': 'train[-40:]',
                'data.test_split': ''}
      final = {'data.train_split': f'{train}+train[-40:]', 'data.val_split': '',
               'data.test_split': 'test[:40]'}
      return {'search': search, 'final': final, 'group': group}

    def get_sweep():
      return dict(
          tasks={'few': task('train[:64]', 'small'), 'many': task('train[:256]', '')},
          grid={'optimizer.learning_rate': (0.03, 0.3)}, seeds=2)
''')


def write_config(folder: pathlib.Path, text: str = CONFIG) -> str:
  path = folder / 'tiny_sweep.py'
  path.write_text(text)
  return str(path)


def load(folder: pathlib.Path, *overrides: str, **flags: Any) -> SweepDefinition:
  return loading.load(write_config(folder), overrides, **flags)


def make(tasks: Iterable[str] | Mapping[str, str] = ('a',),
         grid: Mapping[str, Any] | None = None, seeds: int = 1, final: bool = True,
         **settings: Any) -> SweepDefinition:
  """A definition of tasks {name: group} that differ in nothing but their names."""
  groups = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks, '')
  base = config_lib.with_values(Config(), {
      'total_steps': 10, 'model.variant': 'Ti/16'})
  search = {'data.val_split': 'train[90%:]', 'data.test_split': ''}
  last = {'data.val_split': '', 'data.test_split': 'test'} if final else None
  if not final:
    search = {'data.val_split': 'train[90%:]'}
  return definition.from_dict(base, {
      'tasks': {name: {'search': search, 'final': last, 'group': group}
                for name, group in groups.items()},
      'grid': grid or {'optimizer.learning_rate': (0.1, 0.01)}, 'seeds': seeds,
      **settings}, '')


def result(cell: Cell, diverged: str = '', steps: int = 10, seconds: float = 1.0,
           **metrics: float) -> CellResult:
  return CellResult(
      cell.id, cell.task, cell.stage, cell.settings, cell.seed,
      {name.replace('_', '/', 1): v for name, v in metrics.items()}, steps, seconds,
      False, diverged, {})


class InMemoryResults(CellResults):
  """Results that no file holds."""

  def __init__(self) -> None:
    super().__init__(pathlib.Path('no', 'such', 'folder'))

  def put(self, cell: Cell, **values: Any) -> None:
    self._found[cell.id] = result(cell, **values)
