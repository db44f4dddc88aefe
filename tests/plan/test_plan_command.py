"""`vit_jax plan`: what it prints, its exit status, and the real TPU compiler."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from vit_jax.cli.main import main
from vit_jax.plan import environment, tpu_compiler

HAS_LIBTPU = importlib.util.find_spec('libtpu') is not None
needs_libtpu = pytest.mark.skipif(
    not HAS_LIBTPU, reason='no libtpu here: the TPU compiler cannot be tried')

CONFIG = '''
from ml_collections import ConfigDict

def get_config():
  return ConfigDict(dict(
      total_steps=1000, batch_size=256,
      model=dict(variant='S/16', pool='gap', position_embedding='sincos2d'),
      data=dict(name='imagenet2012', train=dict(flip=True)),
      optimizer=dict(name='adamw', moment_dtype='bfloat16'), mesh=dict(fsdp=1)))
'''
SCAN = ('--config.model.scan=true', '--config.model.remat=full')
TINY = ('--config.model.width=64', '--config.model.depth=1',
        '--config.model.num_heads=1', '--config.model.mlp_dim=64', *SCAN)


@pytest.fixture
def config(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text(CONFIG)
  return f'--config={path}'


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
  # It is for a process of its own; here JAX is running already.
  monkeypatch.setattr(environment, 'prepare', lambda: None)


def test_fits(config, capsys):
  status = main(['plan', config, '--topology=v5litepod-4', '--analytic', *TINY])
  out = capsys.readouterr().out
  assert status == 0
  assert 'v5e:2x2 = v5litepod-4: 4 chips' in out
  assert 'data=4 x fsdp=1; 64 images on each of 4 devices' in out
  assert '1,281,167 examples, 1000 classes' in out
  assert 'fits by the estimate' in out


def test_does_not_fit(config, capsys):
  status = main(['plan', config, '--topology=v5e:2x2', '--analytic', *TINY,
                 '--config.batch_size=262144'])
  out = capsys.readouterr().out
  assert status == 1
  assert 'does not fit' in out and 'too much' in out
  assert '--config.accum_steps=2' in out and '--tune' in out


@pytest.mark.parametrize('words, expected', [
    (['--topology=v5e:3x3'], '2x2'),
    (['--topology=v4-33'], 'v4-32'),
    ([], '--topology'),
    (['--topology=v5e:2x2', '--config.batch_size=255'], '255'),
    (['--topology=v5e:2x2', '--config.mesh.fsdp=3'], 'fsdp=3'),
    (['--topology=v5e:2x2', '--slices=0'], '--slices=0'),
    (['--topology=v5e:2x2', '--tune', '--analytic'], 'one of them'),
    (['--topology=v5e:2x2', '--config.model.variant=Z/16'], 'Z/16'),
    (['--topology=v5e:2x2', '--config.data.name=nothing'], 'nothing'),
])
def test_bad_input(config, capsys, words, expected):
  assert main(['plan', config, *words]) == 2
  captured = capsys.readouterr()
  assert expected in captured.err and not captured.out


def test_json(config, capsys):
  assert main(['plan', config, '--topology=v5e:2x2', '--analytic', '--json',
               *TINY]) == 0
  result = json.loads(capsys.readouterr().out)
  assert result['slice'] == 'v5e:2x2' and result['fits'] and not result['compiled']


def test_table(capsys):
  assert main(['plan', '--table']) == 0
  assert 'ViT-H/14' in capsys.readouterr().out


def test_without_libtpu(config, capsys, monkeypatch):
  monkeypatch.setattr(tpu_compiler, 'available', lambda: False)
  assert main(['plan', config, '--topology=v5e:2x2', *TINY]) == 0
  assert "pip install 'vit_jax[plan]'" in capsys.readouterr().out
  assert main(['plan', config, '--topology=v5e:2x2', '--tune', *TINY]) == 2
  assert "pip install 'vit_jax[plan]'" in capsys.readouterr().err


@pytest.mark.parametrize('message, needed, usable', [
    ('RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the '
     'total memory required for HLO temporaries (17.24G) exceeds available HBM '
     '(15.75G). HLO module: jit_step.', 17.24, 15.75),
    ('RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory '
     'space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.',
     20.5, 15.75),
    ('RESOURCE_EXHAUSTED: of another kind', 0, 0),
])
def test_the_compilers_verdict_is_read(message, needed, usable):
  found = tpu_compiler.parse_out_of_memory(message)
  assert found.needed == pytest.approx(needed * 2**30)
  assert found.usable == pytest.approx(usable * 2**30)


def _plan(*words):
  """(status, stdout, stderr) of a process that compiles for a TPU."""
  env = {k: v for k, v in os.environ.items() if k not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
  done = subprocess.run([sys.executable, '-m', 'vit_jax', 'plan', *words], env=env,
                        text=True, capture_output=True, timeout=1500)
  return done.returncode, done.stdout, done.stderr


@needs_libtpu
@pytest.mark.slow
def test_s16_compiles_for_a_tpu(config):
  status, out, err = _plan(config, '--topology=v5e:2x2', '--json', *SCAN)
  assert status == 0, err
  assert not err
  found = json.loads(out)
  assert found['compiled'] and found['fits'] and found['dtype'] == 'bfloat16'
  # 22.0 million float32 parameters; AdamW with one moment in bfloat16.
  parameters = found['params'] / 4
  assert parameters == pytest.approx(22.0e6, rel=0.01)
  assert found['opt_state'] == pytest.approx(6 * parameters, rel=1e-3)
  state = found['params'] + found['opt_state']
  batch = 64 * 224 * 224 * 3
  assert found['arguments'] == pytest.approx(state + batch, rel=0.05)
  # Everything but the products whose results nobody needs is done four times, not
  # three: remat is 'full'.
  assert 1.15 < 4 * found['program_flops'] / found['model_flops'] < 1.35
  # All gradients are summed over the four chips, most of them in bfloat16.
  count, size = found['collectives']['all-reduce']
  assert 2 * parameters < size < 4 * parameters and count >= 12
  peak = found['model_flops'] / (4 * 197e12)
  assert peak < found['seconds_low'] <= found['seconds'] < 20 * peak
  assert found['network_exposed'] <= found['network_busy'] < found['seconds']


@needs_libtpu
@pytest.mark.slow
def test_a_step_that_is_too_large_for_a_tpu(config):
  status, out, err = _plan(config, '--topology=v5e:1x1', *TINY,
                           '--config.batch_size=32768')
  assert status == 1, err
  assert 'does not fit: ' in out and 'too much on each device' in out


@needs_libtpu
@pytest.mark.slow
def test_tuning_ends_in_a_file_that_loads(config, tmp_path):
  output = tmp_path / 'tuned.json'
  words = (config, '--topology=v5e:2x2', '--tune', '--tune_limit=1',
           f'--output={output}', *TINY, '--config.batch_size=32')
  status, out, err = _plan(*words)
  assert status == 0, err
  assert f'--config.tuned={output}' in out and 'compiling' in err
  programs = tmp_path / 'tuned.json.programs'
  (program,) = json.loads(programs.read_text()).values()
  tuned = json.loads(output.read_text())
  assert program['seconds'] == tuned['estimate']['seconds'] > 0
  assert set(tuned['settings']) >= {'model.scan', 'mesh.fsdp', 'xla_options'}
  # Again, the program is known: nothing new is found out about it, such as how long
  # it takes to compile.
  before = programs.read_text()
  assert _plan(*words)[:2] == (0, out)
  assert programs.read_text() == before
  assert main(['config', config, f'--config.tuned={output}', *TINY[:4],
               '--config.batch_size=32']) == 0
