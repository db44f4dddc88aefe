"""Too little memory on a device: one message, with what to change."""

import jax
import pytest
import runs

from vit_jax.cli import main as main_module
from vit_jax.training import loop


@pytest.fixture
def train(tmp_path, monkeypatch):
  """`train(error, *overrides)`: the exit status where training ends in `error`."""
  def run(error, *overrides):
    def fail(config, workdir):
      raise error
    monkeypatch.setattr(loop, 'train', fail)
    return main_module.main([
        'train', f'--config={runs.write_config(tmp_path)}',
        f'--workdir={tmp_path}/run', *overrides])
  return run


def test_advice_instead_of_a_traceback(train, capsys):
  error = jax.errors.JaxRuntimeError(
      'RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3 GiB.\nat 0x1')
  assert train(error, '--config.batch_size=32', '--config.accum_steps=2') == 1
  err = capsys.readouterr().err
  for word in ('allocate 3 GiB', '--config.accum_steps=4', '--config.model.remat=',
               '--config.batch_size (now 32)', '--config.mesh.fsdp=-1',
               f'{max(1, 32 // (2 * jax.device_count()))} images at once'):
    assert word in err
  assert 'Traceback' not in err and '0x1' not in err


def test_other_errors_of_jax_stay_what_they_are(train):
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    train(jax.errors.JaxRuntimeError('INTERNAL: a defect'))
