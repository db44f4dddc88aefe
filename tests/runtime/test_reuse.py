"""Runs that share programs and data: fewer compilations, the same numbers."""

import pytest
import runs

from vit_jax import config as config_lib
from vit_jax.data import open_input
from vit_jax.parallel import mesh as mesh_lib
from vit_jax.runtime.reuse import Reuse
from vit_jax.training import job as job_lib
from vit_jax.training.loop import train

# Two runs of one program; everything that the program does not contain differs.
OTHER = ('--config.seed=5', '--config.total_steps=6',
         '--config.schedule.name=piecewise',
         '--config.optimizer.learning_rate=0.02', '--config.optimizer.weight_decay=0.3',
         "--config.data.train_split=train[:50%]", '--config.log_every=2')


def _config(folder, *overrides):
  return config_lib.load(
      runs.write_config(folder), ['--config.optimizer.weight_decay=0.1', *overrides])


def _counted(reuse, monkeypatch):
  made = []
  def counted(get, name_of):
    def count(key, make):
      def make_and_count():
        made.append(name_of(key))
        return make()
      return get(key, make_and_count)
    return count
  monkeypatch.setattr(reuse, 'program', counted(reuse.program, lambda key: key[0]))
  monkeypatch.setattr(reuse.splits, 'get', counted(reuse.splits.get, lambda key: key))
  return made


def test_second_run_compiles_nothing_and_measures_the_same(tmp_path, monkeypatch):
  reuse = Reuse()
  made = _counted(reuse, monkeypatch)
  train(_config(tmp_path), str(tmp_path / 'first'), reuse)
  programs = [m for m in made if isinstance(m, str)]
  assert sorted(programs) == ['eval', 'init', 'state', 'train']
  del made[:]
  shared = train(_config(tmp_path, *OTHER), str(tmp_path / 'shared'), reuse)
  # The test split is kept, too; only the training split is another.
  assert len(made) == 1 and made[0].split == 'train[:50%]'
  alone = train(_config(tmp_path, *OTHER), str(tmp_path / 'alone'))
  assert shared == alone
  assert runs.losses(tmp_path / 'shared') == runs.losses(tmp_path / 'alone')


def test_settings_left_out_of_the_key_are_not_in_the_program(tmp_path):
  def text(*overrides):
    config = _config(tmp_path, *overrides)
    data = open_input(config.data, config.data.train_split, train=True)
    job = job_lib.build(
        config, mesh_lib.create(config.mesh), 10, config.total_steps)
    return job_lib.lower_train_step(
        job, data.remaining, data.stored_shape).as_text()
  assert text() == text(*OTHER)
  assert text() != text('--config.ema_decay=0.5')


@pytest.mark.parametrize('key,value', [
    ('batch_size', 8), ('ema_decay', 0.5), ('model.width', 8), ('mixup.alpha', 0.1),
    ('data.image_size', (4, 4)), ('optimizer.weight_decay', 0.0),
    ('loss.label_smoothing', 0.1), ('accum_steps', 2)])
def test_settings_in_the_program_are_in_the_key(tmp_path, key, value):
  config = _config(tmp_path)
  other = config_lib.replace(config, key, value)
  assert job_lib.program_config(config) != job_lib.program_config(other)
