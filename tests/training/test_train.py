"""The loop inside one process: files, resume, guards, and parity of layouts."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import runs

from vit_jax import config as config_lib
from vit_jax.checkpoints.store import Store
from vit_jax.runtime.errors import UserError
from vit_jax.training.loop import train
from vit_jax.training.metrics import NonFiniteError
from vit_jax.training.trained_run import TrainedRun


def _config(folder, *overrides):
  return config_lib.load(runs.write_config(folder), overrides)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run of 10 steps on 8 devices: (config, workdir, result)."""
  folder = tmp_path_factory.mktemp('finished')
  config = _config(folder)
  return config, folder / 'run', train(config, str(folder / 'run'))


def _arrays(workdir, step):
  run = TrainedRun(str(workdir), step=step)
  return jax.tree.leaves(jax.device_get(run.params))


def test_run_leaves_what_the_documentation_promises(finished):
  config, workdir, result = finished
  assert set(result) == {'test/accuracy', 'test/loss'}
  assert sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir()) == [5, 10]
  rows = runs.metrics(workdir)
  assert [r['step'] for r in rows if 'train/loss' in r] == list(range(1, 11))
  assert [r['step'] for r in rows if 'test/accuracy' in r] == [5, 10]
  assert rows[-1] == {'step': 10, **result}
  assert {'train/loss', 'train/accuracy', 'train/grad_norm', 'train/learning_rate',
          'train/images_per_second'} <= set(rows[0])
  assert list(workdir.glob('events.out.tfevents.*'))
  dataset = json.loads((workdir / 'dataset.json').read_text())
  assert dataset['class_names'] == [str(d) for d in range(10)]


def test_running_again_does_nothing(finished, capsys):
  config, workdir, result = finished
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*') if p.is_file()
            and p.name not in ('config.json', 'versions.json', 'dataset.json')}
  assert train(config, str(workdir)) == result
  assert 'is finished' in capsys.readouterr().out
  assert all(p.stat().st_mtime_ns == t for p, t in before.items())


def test_resume_is_bit_exact(finished, tmp_path):
  config, workdir, result = finished
  copy = tmp_path / 'run'
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / 'checkpoints' / '10')
  with (copy / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 11, "train/lo')
  assert train(config, str(copy)) == result
  for a, b in zip(_arrays(workdir, 10), _arrays(copy, 10), strict=True):
    np.testing.assert_array_equal(a, b)
  assert runs.losses(copy) == runs.losses(workdir)


@pytest.mark.slow
@pytest.mark.parametrize('data, fsdp', [(2, 4), (1, 8)])
def test_sharded_layouts_follow_the_same_curve(finished, tmp_path, data, fsdp):
  _, workdir, result = finished
  config = _config(tmp_path, f'--config.mesh.data={data}', f'--config.mesh.fsdp={fsdp}')
  sharded = train(config, str(tmp_path / 'run'))
  expected = runs.losses(workdir)
  for step, loss in runs.losses(tmp_path / 'run').items():
    assert abs(loss - expected[step]) < 1e-5
  assert abs(sharded['test/loss'] - result['test/loss']) < 1e-5


@pytest.mark.slow
def test_scanned_blocks_follow_the_same_curve(finished, tmp_path):
  config = _config(tmp_path, '--config.model.scan=true', '--config.model.remat=full')
  train(config, str(tmp_path / 'run'))
  expected = runs.losses(finished[1])
  for step, loss in runs.losses(tmp_path / 'run').items():
    assert abs(loss - expected[step]) < 1e-5


def test_evaluation_is_exact_for_sizes_that_do_not_divide(finished):
  config, workdir, result = finished
  run = TrainedRun(str(workdir), step=10)
  whole = run.evaluate('test[:50]')
  assert whole['accuracy'] == pytest.approx(result['test/accuracy'], abs=1e-7)
  # Parts of 13 and 37 examples, weighted, make up the 50.
  parts = run.evaluate('test[:13]'), run.evaluate('test[13:50]')
  for name in ('accuracy', 'loss'):
    mean = (13 * parts[0][name] + 37 * parts[1][name]) / 50
    assert whole[name] == pytest.approx(mean, abs=1e-5)


def test_checkpoint_metadata_holds_position_and_settings(finished):
  config, workdir, _ = finished
  meta = json.loads((workdir / 'checkpoints/10/meta/metadata').read_text())
  assert meta['examples_seen'] == 160
  assert config_lib.from_dict(meta['config']) == config


def test_init_checkpoint_starts_from_those_parameters(finished, tmp_path):
  _, workdir, result = finished
  # A rate of 0 keeps the parameters, so evaluation must repeat the old result.
  config = _config(
      tmp_path, f'--config.init.checkpoint={workdir}', '--config.total_steps=2',
      '--config.optimizer.learning_rate=0.0')
  again = train(config, str(tmp_path / 'run'))
  assert again['test/loss'] == pytest.approx(result['test/loss'], abs=1e-6)


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
  _, workdir, _ = finished
  config = _config(
      tmp_path, f'--config.init.checkpoint={workdir}', '--config.model.width=32')
  with pytest.raises(UserError, match='belongs to another model.*'):
    train(config, str(tmp_path / 'run'))


def test_divergence_never_reaches_a_checkpoint(tmp_path):
  config = _config(
      tmp_path, '--config.optimizer.learning_rate=1e30',
      '--config.optimizer.clip_norm=0.0', '--config.checkpoint.every=1',
      '--config.log_every=10', '--config.checkpoint.keep=20')
  with pytest.raises(NonFiniteError, match=r'step \d+: loss .*gradient norm') as e:
    train(config, str(tmp_path / 'run'))
  bad = int(str(e.value).split('step ')[1].split(':')[0])
  store = Store(tmp_path / 'run', config.checkpoint, read_only=True)
  assert max(store.steps(), default=0) < bad
  store.close()


def test_an_update_to_infinity_never_reaches_a_checkpoint(tmp_path):
  # The loss of the only step is that of the parameters before the update.
  config = _config(
      tmp_path, '--config.optimizer.learning_rate=1e38', '--config.total_steps=1',
      '--config.schedule.warmup_steps=0', '--config.optimizer.clip_norm=0.0')
  with pytest.raises(NonFiniteError, match='step 1: loss .*param_norm inf'):
    train(config, str(tmp_path / 'run'))
  assert not list((tmp_path / 'run' / 'checkpoints').iterdir())


def test_best_checkpoint_is_kept(tmp_path, capsys):
  config = _config(
      tmp_path, '--config.eval_every=1', '--config.checkpoint.every=1',
      '--config.checkpoint.keep=1', '--config.checkpoint.best_metric=test/loss',
      '--config.checkpoint.best_mode=min', '--config.total_steps=6')
  train(config, str(tmp_path / 'run'))
  # Test data that choose are no test data any more.
  assert capsys.readouterr().err.count("best_metric='test/loss' chooses") == 1
  scores = {r['step']: r['test/loss'] for r in runs.metrics(tmp_path / 'run')
            if 'test/loss' in r}
  best = min(scores, key=scores.get)
  store = Store(tmp_path / 'run', config.checkpoint, read_only=True)
  assert store.best() == best
  assert set(store.steps()) == {best, 6}
  store.close()


def test_a_batch_larger_than_the_data_is_told(tmp_path, capsys):
  config = _config(
      tmp_path, '--config.data.train_split=train[:12]', '--config.eval_every=0',
      '--config.total_steps=1', '--config.schedule.warmup_steps=0')
  train(config, str(tmp_path / 'run'))
  assert 'is more than the 12 training examples' in capsys.readouterr().err


def test_epochs_become_steps(tmp_path):
  config = _config(tmp_path, '--config.total_steps=0', '--config.total_epochs=0.05',
                   '--config.eval_every=0')
  train(config, str(tmp_path / 'run'))
  # 0.05 epochs of 1,438 examples in batches of 16.
  assert max(runs.losses(tmp_path / 'run')) == round(0.05 * 1438 / 16)


@pytest.mark.parametrize('override, message', [
    ('--config.batch_size=12', '12 does not divide over 8 devices.*8 or 16'),
    ('--config.eval_batch_size=12', 'eval_batch_size 12 does not divide'),
    ('--config.mesh.fsdp=3', 'does not fit 8 devices'),
    ('--config.model.variant=X/16', 'X/16'),
    ('--config.data.name=digitz', 'digits'),
    ('--config.data.train_split=training', 'train'),
    ('--config.init.checkpoint=/nowhere', 'not the work directory'),
])
def test_mistakes_are_found_before_anything_is_written(tmp_path, override, message):
  with pytest.raises(UserError, match=message):
    train(_config(tmp_path, override), str(tmp_path / 'run'))
  assert not pathlib.Path(tmp_path / 'run').exists()


def test_a_missing_checkpoint_is_said_before_data_are_opened(tmp_path):
  config = _config(tmp_path, '--config.init.checkpoint=/nowhere',
                   '--config.data.name=not_there')
  with pytest.raises(UserError, match='/nowhere'):
    train(config, str(tmp_path / 'run'))
