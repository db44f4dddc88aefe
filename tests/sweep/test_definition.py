"""What a definition may be, and what is the same sweep in one directory."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import sweeps

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import definition
from vit_jax.sweep.directory import SweepDirectory


@pytest.mark.parametrize('values, message', [
    ({'metrics': 1}, 'metrics.*expected one of tasks'),
    ({'tasks': {'a': {'train': {}}}}, "'a'.*'train'.*search, final, group"),
    ({'tasks': {'a/b': {}}}, "'a/b'"),
    ({'grid': {'optimizer.momentum': 0.9}}, 'expected a tuple'),
    ({'grid': {'optimizer.momentum': ()}}, 'no values'),
    ({'seeds': 0}, 'from 1'),
    ({'benchmark': 'vtab'}, 'known are vtab-1k'),
])
def test_bad_definitions_are_explained(values: dict[str, Any], message: str) -> None:
  with pytest.raises(UserError, match=message):
    definition.from_dict(Config(), values, 'a')


def test_json_keeps_everything(tmp_path: pathlib.Path) -> None:
  found = sweeps.load(tmp_path, tasks='few', grid=('data.image_size=(8,8),(16,16)',))
  again = definition.from_json(json.loads(json.dumps(definition.to_json(found))))
  assert definition.to_json(again) == definition.to_json(found)
  assert again.grid == found.grid and again.base == found.base


def test_a_directory_collects_tasks_points_and_seeds(tmp_path: pathlib.Path) -> None:
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  directory.claim(sweeps.load(tmp_path, tasks='few', seeds=3))
  now = directory.claim(sweeps.load(
      tmp_path, tasks='many', grid=('optimizer.learning_rate=1.0',)))
  # Only what is asked for now is run now.
  assert now.asked == ('many',)
  assert now.seeds == 3
  assert now.grid == {'optimizer.learning_rate': (0.03, 0.3, 1.0)}
  assert directory.read_existing().asked == ('few', 'many')


def test_a_directory_of_another_sweep_is_refused_with_all_differences(
    tmp_path: pathlib.Path) -> None:
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  first = sweeps.load(tmp_path)
  directory.claim(first)
  before = (directory.path / 'sweep.json').read_text()
  few = first.tasks['few']
  assert few.final is not None
  other = dataclasses.replace(
      first, base=config_lib.replace(first.base, 'batch_size', 32), select='val/loss',
      grid={'optimizer.momentum': (0.9,)}, tasks={'few': dataclasses.replace(
          few, final={**few.final, 'data.test_split': 'test'})})
  with pytest.raises(UserError) as e:
    directory.claim(other)
  for text in ('config.batch_size: 16 there, 32 here', "select: 'val/accuracy' there",
               'keys of the grid: optimizer.learning_rate there, optimizer.momentum',
               "task few, its 'final'", 'Nothing was changed'):
    assert text in str(e.value)
  assert (directory.path / 'sweep.json').read_text() == before


def test_logging_and_the_mesh_may_change(tmp_path: pathlib.Path) -> None:
  directory = SweepDirectory(str(tmp_path / 'sweep'))
  directory.claim(sweeps.load(tmp_path))
  directory.claim(sweeps.load(tmp_path, '--config.log_every=1', '--config.mesh.fsdp=2'))


@pytest.mark.parametrize('make', [
    lambda path: path.write_text('x'),
    lambda path: (path.mkdir(), (path / 'config.json').write_text('{}'))])
def test_directories_of_something_else_are_refused(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], Any]) -> None:
  make(tmp_path / 'sweep')
  with pytest.raises(UserError, match='is a file|holds no sweep.json'):
    SweepDirectory(str(tmp_path / 'sweep')).claim(sweeps.load(tmp_path))
