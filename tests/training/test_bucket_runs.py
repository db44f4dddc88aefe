"""Work directories in a bucket: whole trainings, kills, and use of what they left."""

import json
import time

import numpy as np
import pytest
import runs

import vit_jax
from vit_jax import config as config_lib
from vit_jax.checkpoints import directory, integrity, resume
from vit_jax.config.sections import CheckpointSection, Config
from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError
from vit_jax.training import metrics, workdir
from vit_jax.training.loop import train
from vit_jax.training.trained_run import TrainedRun

DATA = workdir.DatasetFacts('pets', 20, 2, ('cat', 'dog'))


def _losses(place) -> dict:
  return {row['step']: row['train/loss'] for row in metrics.read(place)
          if 'train/loss' in row}


@pytest.mark.parametrize('url, words', [
    ('gs:/bucket/run', 'expected two, as in gs://bucket'),
    ('s3://bucket/run', 'cannot write to s3://. Give .* gs://bucket/folder'),
    ('gcs://bucket/run', 'Did you mean gs://'), ('gs://', 'names no bucket')])
def test_other_places_are_refused_before_anything(tmp_path, monkeypatch, url, words):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=words):
    train(Config(total_steps=1), url)
  assert not list(tmp_path.iterdir())


def test_claims_and_settings(gcs):
  url, config = f'{gcs.url}/a/run', Config(total_steps=10)
  workdir.check_usable(url, config, DATA)
  workdir.claim(url, config, DATA)
  assert workdir.read_config(url) == config and workdir.read_dataset(url) == DATA
  with pytest.raises(UserError, match='config.batch_size: 512 there, 64 here'):
    workdir.claim(url, Config(total_steps=10, batch_size=64), DATA)
  with pytest.raises(UserError, match='is not empty and holds no config.json'):
    workdir.claim(f'{gcs.url}/a', config, DATA)


def test_measurements_are_there_after_a_commit(gcs):
  writer = metrics.Writer(gcs.url, resume_step=0)
  writer.write(1, {'train/loss': 0.5})
  assert metrics.read(gcs.url) == []
  writer.commit()
  writer.write(2, {'train/loss': 0.25})
  assert [row['step'] for row in metrics.read(gcs.url)] == [1]
  writer.close()
  assert [row['step'] for row in metrics.read(gcs.url)] == [1, 2]
  assert any('tfevents' in name for name in storage.children(gcs.url))
  metrics.Writer(gcs.url, resume_step=1).close()
  assert [row['step'] for row in metrics.read(gcs.url)] == [1]


def test_damage_and_unfinished_saves(gcs):
  folder = directory.of(gcs.url)
  for step in ('5', '10'):
    storage.write_text(f'{folder}/{step}/state/x', 'content')
    integrity.seal(f'{folder}/{step}/state')
  with pytest.raises(UserError, match='copied from a disk, add that file'):
    directory.remove_unfinished(folder)
  assert storage.children(folder) == ['10', '5']
  storage.write_text(f'{folder}/5/commit_success.txt', '')
  assert integrity.damage(f'{folder}/5/state') == ''
  storage.write_text(f'{folder}/5/state/x', 'Content')
  assert 'CRC-32C' in integrity.damage(f'{folder}/5/state')
  storage.delete(f'{folder}/5/state/x')
  assert 'missing' in integrity.damage(f'{folder}/5/state')
  directory.remove_unfinished(folder)
  assert storage.children(folder) == ['5']


@pytest.mark.slow
def test_killed_in_a_step_resumed_and_evaluated(gcs, tmp_path):
  """The same losses, bit for bit, as on a disk."""
  config = runs.write_config(tmp_path)
  words = ('train', f'--config={config}', '--config.total_steps=40')
  url = f'{gcs.url}/runs/tiny'
  disk = runs.command(*words, f'--workdir={tmp_path}/run')
  first = runs.command(*words, f'--workdir={url}')
  try:
    while not storage.exists(f'{url}/checkpoints/5/commit_success.txt'):
      assert first.poll() is None, first.communicate()
      time.sleep(0.05)
  finally:
    first.kill()
    first.communicate()
  out, _ = runs.finish(runs.command(*words, f'--workdir={url}'))
  assert 'resuming at step' in out
  runs.finish(disk)
  assert _losses(url) == _losses(tmp_path / 'run')
  assert sorted(storage.children(f'{url}/checkpoints')) == ['30', '35', '40']
  assert any('tfevents' in name for name in storage.children(url))
  evaluated = json.loads(runs.finish(
      runs.command('eval', f'--workdir={url}', '--json'))[0])
  assert evaluated['step'] == 40
  assert evaluated['loss'] == pytest.approx(metrics.read(url)[-1]['test/loss'], 1e-5)
  _check_use_and_damage(url, config)


def _check_use_and_damage(url, config):
  vit_jax.load(url)
  weights = TrainedRun(url, step=40).params
  assert all(np.isfinite(np.asarray(x)).all() for x in weights['head'].values())
  arrays = [name for name in storage.below(f'{url}/checkpoints/40/state')
            if '/d/' in f'/{name}']
  path = f'{url}/checkpoints/40/state/{arrays[0]}'
  storage.write_bytes(path, storage.read_bytes(path)[:-1] + b'?')
  with pytest.raises(UserError, match='is damaged'):
    TrainedRun(url, step=40)
  section = config_lib.load(config, ()).checkpoint
  assert isinstance(section, CheckpointSection)
  assert resume.find(url, section) == 35
  assert storage.exists(f'{url}/checkpoints/40.corrupt')
