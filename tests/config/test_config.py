"""Config files, overrides, and the messages for wrong ones."""

import json

import pytest

from vit_jax import config as config_lib
from vit_jax.runtime.errors import UserError


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / 'tiny.py'
  path.write_text(
      'from ml_collections import ConfigDict\n'
      'def get_config(arg="12"):\n'
      '  return ConfigDict(dict(total_steps=int(arg), batch_size=8,\n'
      '                         data=dict(image_size=(8, 6))))\n')
  return str(path)


def test_a_file_needs_only_what_differs_from_the_defaults(config_file):
  config = config_lib.load(config_file)
  assert (config.total_steps, config.batch_size) == (12, 8)
  assert config.data.image_size == (8, 6)
  assert config.optimizer == config_lib.Config().optimizer


def test_the_argument_after_the_colon_reaches_get_config(config_file):
  assert config_lib.load(config_file + ':30').total_steps == 30


@pytest.mark.parametrize('words, key, value', [
    (['--config.batch_size=64'], 'batch_size', 64),
    (['--config.batch_size', '64'], 'batch_size', 64),
    (['--config.data.dir=/a b'], 'data.dir', '/a b'),
    (['--config.data.train.flip=true'], 'data.train.flip', True),
    (['--config.data.image_size=32'], 'data.image_size', (32, 32)),
    (['--config.data.image_size=(32, 48)'], 'data.image_size', (32, 48)),
    (['--config.optimizer.learning_rate=1'], 'optimizer.learning_rate', 1.0),
    (['--config.optimizer.lr_multipliers=(("head/.*", 0.5),)'],
     'optimizer.lr_multipliers', (('head/.*', 0.5),)),
])
def test_overrides(config_file, words, key, value):
  config = config_lib.load(config_file, words)
  for name in key.split('.'):
    config = getattr(config, name)
  assert config == value


def test_steps_and_epochs_on_the_command_line_replace_one_another(config_file):
  config = config_lib.load(config_file, ['--config.total_epochs=3'])
  assert (config.total_steps, config.total_epochs) == (0, 3.0)
  config = config_lib.apply_overrides(config, ['--config.total_steps', '7'])
  assert (config.total_steps, config.total_epochs) == (7, 0.0)
  with pytest.raises(UserError, match='exactly one'):
    config_lib.load(config_file, ['--config.total_epochs=3', '--config.total_steps=7'])


def test_the_nearest_config_file_is_named(config_file):
  with pytest.raises(UserError, match='Did you mean .*/tiny.py'):
    config_lib.load(config_file.replace('tiny', 'tyni') + ':30')


@pytest.mark.parametrize('word, message', [
    ('--config.bach_size=3', 'Did you mean config.batch_size?'),
    ('--config.model.varient=B/16', 'Did you mean config.model.variant?'),
    ('--config.batch_size=many', 'invalid literal'),
    ('--config.model=B/16', 'Unknown config key config.model'),
    ('--config.accum_steps=3', 'does not divide'),
    ('--config.total_steps=0', 'exactly one'),
    ('--config.log_every=0', 'at least 1'),
    ('--config.loss.name=hinge', 'softmax, sigmoid'),
    ('--config.data.image_size=(1, 2, 3)', r'\(height, width\)'),
    ('--config.ema_decay=1.5', r'\[0, 1\)'),
    ('--config.seed=-1', r'\[0, 2\*\*32\)'),
    ('--config.eval_every=-1', 'at least 0'),
    ('--config.model.dropout=1.5', r'\[0, 1\)'),
    ('stray', 'Unexpected argument'),
])
def test_wrong_settings_say_what_is_right(config_file, word, message):
  with pytest.raises(UserError, match=message):
    config_lib.load(config_file, [word])


def test_a_warm_up_of_no_average():
  with pytest.raises(UserError, match='ema_warmup is True, but config.ema_decay=0.0'):
    config_lib.check(config_lib.from_dict({'total_steps': 1, 'ema_warmup': True}))


def test_unknown_key_in_the_file(tmp_path):
  path = tmp_path / 'wrong.py'
  path.write_text('def get_config():\n  return {"optimiser": {"name": "sgd"}}\n')
  with pytest.raises(UserError, match='config.optimizer.name'):
    config_lib.load(str(path))


@pytest.mark.parametrize('name, text, message', [
    ('missing.py', None, 'No config file'),
    ('empty.py', '', 'no get_config'),
    ('noarg.py', 'def get_config():\n  return {}\n', 'takes no argument'),
    ('notes.txt', 'hello', 'not a Python file'),
])
def test_unusable_files(tmp_path, name, text, message):
  path = tmp_path / name
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=message):
    config_lib.load(f'{path}:x' if name == 'noarg.py' else str(path))


def test_json_round_trip(config_file):
  config = config_lib.load(
      config_file, ['--config.optimizer.lr_multipliers=(("head/.*", 0.5),)'])
  values = json.loads(json.dumps(config_lib.to_dict(config)))
  assert config_lib.from_dict(values) == config


def test_only_settings_of_the_trajectory_make_another_run(config_file):
  old = config_lib.load(config_file)
  new = config_lib.load(config_file, [
      '--config.log_every=1', '--config.mesh.fsdp=2', '--config.seed=3',
      '--config.model.dropout=0.1'])
  assert config_lib.differences(old, new) == [
      ('seed', 0, 3), ('model.dropout', 0.0, 0.1)]
