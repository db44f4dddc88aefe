"""What is read from config files and flags."""

import pathlib

import pytest
import sweeps

from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import loading


@pytest.mark.parametrize('word, expected', [
    ('optimizer.learning_rate=0.01,3e-2', (0.01, 0.03)),
    ('config.optimizer.learning_rate=1', (1.0,)),
    ('total_steps=500, 2500', (500, 2500)),
    ('schedule.name=cosine,linear', ('cosine', 'linear')),
    ('model.scan=true,False', (True, False)),
    ('data.image_size=(32,32),(64,48)', ((32, 32), (64, 48))),
    ('data.train_split=train[:50%],train', ('train[:50%]', 'train')),
    ('total_steps=5,5,6', (5, 6)),
])
def test_grid_values_have_the_type_of_their_key(word: str, expected: tuple) -> None:
  (values,) = loading.parse_grid(word, Config()).values()
  assert values == expected
  assert [type(v) for v in values] == [type(v) for v in expected]


@pytest.mark.parametrize('word, message', [
    ('optimizer.learning_rat=1', r'Did you mean config\.optimizer\.learning_rate'),
    ('optimizer.learning_rate.x=1', 'Unknown config key'),
    ('optimizer=1', 'optimizer'),
    ('total_steps=many', 'total_steps takes a value of type int'),
    ('optimizer.learning_rate=1e-3,oops', "learning_rate takes .* got 'oops'"),
    ('total_steps=', 'names no values'),
    ('total_steps', 'names no values'),
    ('seed=1,2', '--seeds=N'),
])
def test_bad_grids_are_explained(word: str, message: str) -> None:
  with pytest.raises(UserError, match=message):
    loading.parse_grid(word, Config())


TASKS = sweeps.make({
    'cifar100': 'natural', 'svhn': 'natural', 'dsprites_location': 'structured',
    'dsprites_orientation': 'structured'}).tasks


@pytest.mark.parametrize('text, expected', [
    ('', tuple(TASKS)), ('all', tuple(TASKS)),
    ('structured,svhn', ('svhn', 'dsprites_location', 'dsprites_orientation')),
    ('dsprites_loc, Natural', ('cifar100', 'svhn', 'dsprites_location')),
])
def test_tasks_are_selected_by_name_part_and_group(text: str, expected: tuple) -> None:
  assert loading.select_tasks(text, TASKS) == expected


@pytest.mark.parametrize('text, message', [
    ('natrual', r"'natrual'.*Did you mean natural\?.*Groups: natural, structured"),
    ('dsprites', 'Did you mean dsprites_location or dsprites_orientation'),
    (',', 'names no task'),
])
def test_unknown_tasks_are_explained(text: str, message: str) -> None:
  with pytest.raises(UserError, match=message):
    loading.select_tasks(text, TASKS)


@pytest.mark.parametrize('text', ['1', '4/4', '-1/4', '1/0', 'a/b', '1/2/3', '/2'])
def test_bad_shares_are_explained(text: str) -> None:
  with pytest.raises(UserError, match='from 0 to n - 1'):
    loading.parse_shard(text)
  assert loading.parse_shard('3/4') == (3, 4)


def test_a_file_and_flags_make_a_definition(tmp_path: pathlib.Path) -> None:
  found = sweeps.load(
      tmp_path, '--config.batch_size=8', tasks='small', seeds=5,
      grid=('optimizer.learning_rate=0.5', 'optimizer.momentum=0.0,0.9'))
  assert found.base.batch_size == 8
  assert found.asked == ('few',) and set(found.tasks) == {'few', 'many'}
  assert found.seeds == 5
  assert found.points() == [
      {'optimizer.learning_rate': 0.5, 'optimizer.momentum': 0.0},
      {'optimizer.learning_rate': 0.5, 'optimizer.momentum': 0.9}]


def test_any_config_can_be_swept_by_flags(tmp_path: pathlib.Path) -> None:
  text = sweeps.CONFIG.split('def task')[0]
  path = sweeps.write_config(tmp_path, text)
  found = loading.load(path, grid=['optimizer.momentum=0.0,0.9'])
  assert list(found.tasks) == ['tiny_sweep'] and len(found.points()) == 2
  with pytest.raises(UserError, match=r'defines no get_sweep\(\).*--grid'):
    loading.load(path)


def test_the_argument_of_a_file_reaches_both_functions(tmp_path: pathlib.Path) -> None:
  text = sweeps.CONFIG.split('def get_config')[0] + (
      'def get_config(arg=""):\n  return ConfigDict(dict(total_steps=len(arg)))\n'
      'def get_sweep(arg=""):\n  return dict(seeds=len(arg))\n')
  found = loading.load(sweeps.write_config(tmp_path, text) + ':abc')
  assert (found.base.total_steps, found.seeds) == (3, 3)


@pytest.mark.parametrize('override, message', [
    ('--config.optimizer.learning_rate=1', 'the grid sets this key'),
    ('--config.data.train_split=test', 'the task few sets this key itself'),
    ('--config.optimizer.rate=1', 'Unknown config key'),
])
def test_overrides_that_no_run_would_see_are_errors(
    tmp_path: pathlib.Path, override: str, message: str) -> None:
  with pytest.raises(UserError, match=message):
    sweeps.load(tmp_path, override)
