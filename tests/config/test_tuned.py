"""Files of tuned settings, and compiler options."""

import json

import jax
import pytest

from vit_jax import config as config_lib
from vit_jax.config.sections import Config
from vit_jax.runtime.errors import UserError
from vit_jax.training import compiler_options as options_lib
from vit_jax.training.compiler_options import compiler_options
from vit_jax.training.programs import compile_lowered

VMEM = ('xla_tpu_scoped_vmem_limit_kib', '65536')
GOOD = {'kind': 'vit_jax tuned settings',
        'made_for': {'model.variant': 'S/16', 'batch_size': 512},
        'settings': {'model.scan': True, 'model.remat': 'full',
                     'xla_options': [list(VMEM)]}}


@pytest.fixture
def config_file(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('def get_config():\n  from ml_collections import ConfigDict\n'
                  '  return ConfigDict(dict(total_steps=1))\n')
  return str(path)


def _load(config_file, tmp_path, content, *overrides):
  path = tmp_path / 'tuned.json'
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return config_lib.load(config_file, [f'--config.tuned={path}', *overrides])


def test_settings_are_applied_and_recorded(config_file, tmp_path):
  config = _load(config_file, tmp_path, GOOD)
  assert config.model.scan and config.model.remat == 'full'
  assert config.xla_options == (VMEM,)
  assert config.tuned.endswith('tuned.json')
  # What a work directory records loads without the file.
  (tmp_path / 'tuned.json').unlink()
  recorded = json.loads(json.dumps(config_lib.to_dict(config)))
  assert config_lib.from_dict(recorded) == config


def test_the_command_line_counts_more(config_file, tmp_path):
  config = _load(config_file, tmp_path, GOOD, '--config.model.remat=dots')
  assert config.model.scan and config.model.remat == 'dots'


@pytest.mark.parametrize('content, expected', [
    ('{"half', 'holds no JSON'),
    ('[1, 2]', '"kind"'),
    ({'settings': {}}, '"kind"'),
    (GOOD | {'settings': None}, 'lacks'),
    (GOOD | {'settings': {'optimizer.learning_rate': 1.0}}, 'learning_rate'),
    (GOOD | {'made_for': {'model.variant': 'L/16'}}, 'S/16.*L/16'),
    (GOOD | {'made_for': {'batch_size': 4096}}, 'plan --tune'),
    (GOOD | {'settings': {'model.scan': 'maybe'}}, 'model.scan'),
])
def test_foreign_files(config_file, tmp_path, content, expected):
  with pytest.raises(UserError, match=expected):
    _load(config_file, tmp_path, content)


def test_missing_file(config_file):
  with pytest.raises(UserError, match='plan --tune'):
    config_lib.load(config_file, ['--config.tuned=/nowhere/tuned.json'])


def test_options_of_other_backends_are_left_out():
  config = Config(xla_options=(VMEM, ('xla_gpu_x', '1'), ('xla_y', 'z')))
  defaults = compiler_options(Config(), 'tpu')
  assert compiler_options(config, 'tpu') == defaults | {
      VMEM[0]: '65536', 'xla_y': 'z'}
  ours = next(iter(defaults))
  replaced = Config(xla_options=((ours, '1'),))
  assert compiler_options(replaced, 'tpu') == {**defaults, ours: '1'}
  assert compiler_options(replaced, 'cpu') is None
  assert compiler_options(config, 'cpu') == {'xla_y': 'z'}
  assert compiler_options(Config(xla_options=(VMEM,)), 'cpu') is None


def test_options_on_the_command_line(config_file):
  config = config_lib.load(
      config_file, [f"--config.xla_options=(('{VMEM[0]}', '{VMEM[1]}'),)"])
  assert config.xla_options == (VMEM,)


@pytest.mark.parametrize('value', [('a', 'b'), (('a', 1),), (('a',),)])
def test_bad_options(value):
  config = config_lib.from_dict({'total_steps': 1, 'xla_options': value})
  with pytest.raises(UserError, match='pairs'):
    config_lib.check(config)


def test_options_that_the_compiler_does_not_know(monkeypatch, capsys):
  lowered = jax.jit(lambda x: x + 1).lower(1.0)

  with pytest.raises(UserError, match="xla_options has 'xla_nonsense'"):
    compile_lowered(lowered, Config(xla_options=(('xla_nonsense', '1'),)), 'cpu')
  # A default of ours must not end a run with a newer compiler.
  monkeypatch.setitem(options_lib._DEFAULTS, 'cpu', {'xla_forgotten': '1'})
  assert compile_lowered(lowered, Config(), 'cpu')(1.0) == 2.0
  assert "'xla_forgotten'" in capsys.readouterr().err
