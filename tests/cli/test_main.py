"""The command line itself: help, flags, exit statuses."""

import importlib.metadata
import subprocess
import sys

import pytest

from vit_jax.cli import main as main_module
from vit_jax.config.sections import Config
from vit_jax.config.settings import all_settings


def test_overrides_are_told_apart_from_flags():
  overrides, rest = main_module.split_overrides(
      ['predict', '--config.data.dir=/a', 'x.png', '--config.seed', '3', '--json'])
  assert overrides == ['--config.data.dir=/a', '--config.seed', '3']
  assert rest == ['predict', 'x.png', '--json']
  assert main_module.split_overrides(['--config.data.train.flip', '--workdir=a.b']) == (
      ['--config.data.train.flip'], ['--workdir=a.b'])


@pytest.mark.parametrize('argv, message', [
    (['train', '--config=c.py', '--workdri=/tmp/x', '--workdir=/tmp/y'],
     'did you mean --workdir?'),
    (['eval', '--workdir=/tmp/y', 'extra'], "unexpected argument 'extra'"),
    (['train', '--config=c.py', '--workdir=/tmp/y', '--batch_size=3'],
     'the setting is --config.batch_size'),
    (['train', '--config=c.py', '--workdir=/tmp/y', '--optimizer.b2=3'],
     'the setting is --config.optimizer.b2'),
    (['trian'], "invalid choice: 'trian'"),
    (['predict', '--workdir=/tmp/y', '--top_k=0', 'x.png'], '0 is less than 1'),
])
def test_wrong_flags(argv, message, capsys):
  with pytest.raises(SystemExit) as e:
    main_module.main(argv)
  assert e.value.code == 2
  assert message in capsys.readouterr().err


def test_user_errors_are_one_message_without_traceback(tmp_path, capsys):
  argv = ['train', '--config=missing.py', f'--workdir={tmp_path}/run']
  assert main_module.main(argv) == 1
  captured = capsys.readouterr()
  assert captured.err.startswith('vit_jax train: error: No config file')
  assert 'Traceback' not in captured.err
  assert not (tmp_path / 'run').exists()


def test_config_prints_every_setting(tmp_path, capsys):
  path = tmp_path / 'c.py'
  path.write_text('def get_config():\n  return {"total_steps": 5}\n')
  argv = ['config', f'--config={path}', '--config.optimizer.b2=0.95', '--json']
  assert main_module.main(argv) == 0
  import json
  values = json.loads(capsys.readouterr().out)
  assert values['total_steps'] == 5
  assert values['optimizer']['b2'] == 0.95
  assert values['mesh'] == {'data': -1, 'fsdp': 0}


@pytest.mark.parametrize('override', [
    '--config.model.variant=Q/16', '--config.optimizer.name=adamm',
    '--config.schedule.warmup_steps=6'])
def test_config_finds_settings_that_cannot_be(tmp_path, capsys, override):
  path = tmp_path / 'c.py'
  path.write_text('def get_config():\n  return {"total_steps": 5}\n')
  assert main_module.main(['config', f'--config={path}', override]) == 1
  assert 'error: ' in capsys.readouterr().err


@pytest.mark.parametrize('command, status', [('train', 75), ('config', -15)])
def test_sigterm_before_there_is_anything_to_save(tmp_path, command, status):
  path = tmp_path / 'c.py'
  path.write_text('import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n')
  words = [command, f'--config={path}']
  if command == 'train':
    words.append(f'--workdir={tmp_path / "run"}')
  done = subprocess.run([sys.executable, '-m', 'vit_jax', *words],
                        capture_output=True, text=True)
  assert done.returncode == status, done.stderr
  assert ('Run the same command' in done.stderr) == (command == 'train')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('key, words', [
    ('optimizer.b2', ['config.optimizer.b2: float = 0.999', "'adamw'", 'resumed']),
    ('config.model.pool', ["'gap' (mean over", 'Compiled programs depend on it']),
    ('model.projection', ["'2d' of matrices"]), ('mesh.fsdp', ['-1 for what is left']),
    ('evaluators[0].k', ['config.evaluators[].k: int = 20', 'above 0']),
    ('data.image_size', ['one number means a square']),
    ('mesh', ['config.mesh.data', 'config.mesh.fsdp', '--tune']),
])
def test_settings_explain_themselves(key, words, capsys):
  assert main_module.main(['config', '--explain', key]) == 0
  out = capsys.readouterr().out
  for word in words:
    assert word in out


def test_explain_without_a_key_explains_every_setting(capsys):
  assert main_module.main(['config', '--explain']) == 0
  out = capsys.readouterr().out
  assert all(f'config.{key}: ' in out for key in all_settings(Config))


def test_unknown_keys_are_not_explained(capsys):
  assert main_module.main(['config', '--explain', 'optimiser.b2']) == 1
  assert 'Did you mean optimizer.b2?' in capsys.readouterr().err
  assert main_module.main(['config']) == 1
  assert '--explain' in capsys.readouterr().err


def test_version_is_that_of_the_package(capsys):
  with pytest.raises(SystemExit) as e:
    main_module.main(['--version'])
  assert e.value.code == 0
  assert capsys.readouterr().out == (
      f'vit_jax {importlib.metadata.version("vit_jax")}\n')


def test_a_reader_that_has_seen_enough_is_no_error():
  done = subprocess.run(
      f'{sys.executable} -m vit_jax config --explain | head -n 1', shell=True,
      capture_output=True, text=True)
  assert done.stdout.startswith('config.seed') and done.stderr == ''


def test_help_imports_nothing_heavy():
  code = ('import sys; from vit_jax.__main__ import main\n'
          'try: main(["--help"])\n'
          'except SystemExit: pass\n'
          'heavy = {"jax", "flax", "tensorflow", "numpy", "orbax"} & set(sys.modules)\n'
          'assert not heavy, heavy')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  for command in main_module.COMMANDS:
    assert command in done.stdout
