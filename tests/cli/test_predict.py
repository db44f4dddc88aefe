"""`vit_jax predict`: files and folders, forms of output, files that are no images."""

import csv
import json

import numpy as np
import pytest
import runs
from PIL import Image

from vit_jax import config as config_lib
from vit_jax.cli import main as main_module
from vit_jax.training.loop import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('predict')
  config = config_lib.load(runs.write_config(folder), [
      '--config.total_steps=1', '--config.data.test_split=test[:16]',
      '--config.schedule.warmup_steps=0',
      '--config.eval_every=0',
      '--config.model.depth=1'])
  train(config, str(folder / 'run'))
  return str(folder / 'run')


@pytest.fixture
def images(tmp_path):
  """Five images in nested folders, among other files."""
  rng = np.random.default_rng(0)
  for name in ('b.png', 'a/2.JPG', 'a/1.png', 'a/c/3.tif', '.hidden/4.png', 'z.webp'):
    path = tmp_path / 'images' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(path)
  (tmp_path / 'images' / 'notes.txt').write_text('no image')
  return tmp_path / 'images'


FOUND = ['a/1.png', 'a/2.JPG', 'a/c/3.tif', 'b.png', 'z.webp']


def predict(workdir, *words):
  return main_module.main(['predict', f'--workdir={workdir}', *map(str, words)])


def test_forms_agree(workdir, images, tmp_path, capsys):
  paths = [str(images / name) for name in FOUND]
  assert predict(workdir, images, '--json', '--batch_size=2') == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row['image'] for row in rows] == paths
  assert [len(row['classes']) for row in rows] == [5] * 5
  best = [(c['name'], c['probability']) for c in (row['classes'][0] for row in rows)]

  assert predict(workdir, images, '--one_line', '--top_k=1') == 0
  assert capsys.readouterr().out.splitlines() == [
      f'{path}\t{name} {p:.4f}' for path, (name, p) in zip(paths, best, strict=True)]

  for ending in ('csv', 'jsonl'):
    assert predict(workdir, images, f'--output={tmp_path}/x.{ending}', '--top_k=99'
                   ) == 0
    assert '5 images' in capsys.readouterr().out
  assert [json.loads(line)['image'] for line in open(tmp_path / 'x.jsonl')] == paths
  table = list(csv.DictReader(open(tmp_path / 'x.csv')))
  assert [row['image'] for row in table] == paths
  assert [(r['name_1'], float(r['probability_1'])) for r in table] == [
      (name, pytest.approx(p, abs=1e-6)) for name, p in best]
  assert sum(float(table[0][f'probability_{i}']) for i in range(1, 11)
             ) == pytest.approx(1, abs=1e-5)


def test_bad_files_do_not_end_it(workdir, images, tmp_path, capsys):
  whole = (images / 'a' / '2.JPG').read_bytes()
  (images / 'a' / '2.JPG').write_bytes(whole[:len(whole) // 2])
  (images / 'b.png').write_bytes(b'no image')
  output = tmp_path / 'x.csv'
  assert predict(workdir, images, '/nowhere.png', f'--output={output}') == 1
  err = capsys.readouterr().err
  lines = err.splitlines()
  assert len(lines) == 4 and lines[-1].endswith('3 of 6 files could not be read'), err
  assert all(name in err for name in ('2.JPG', 'b.png', '/nowhere.png'))
  assert [row['image'] for row in csv.DictReader(open(output))] == [
      str(images / name) for name in ('a/1.png', 'a/c/3.tif', 'z.webp')]


@pytest.mark.parametrize('words, message', [
    (['{images}', '--output={images}/x.parquet'], 'neither of .csv, .jsonl'),
    (['{images}', '--output={images}/old.csv'], 'never overwritten'),
    (['{images}/empty'], 'holds no images'),
])
def test_what_cannot_be_done(workdir, images, words, message, capsys):
  (images / 'empty').mkdir()
  (images / 'old.csv').write_text('mine')
  assert predict(workdir, *(w.format(images=images) for w in words)) == 1
  assert message in capsys.readouterr().err
  assert (images / 'old.csv').read_text() == 'mine'


def test_an_interrupted_table_is_absent(workdir, images, tmp_path, monkeypatch):
  from vit_jax.training.trained_run import TrainedRun
  def predict_one(self, paths, batch_size):
    yield np.full(10, 0.1)
    raise KeyboardInterrupt
  monkeypatch.setattr(TrainedRun, 'predict', predict_one)
  assert predict(workdir, images, f'--output={tmp_path}/x.csv') == 130
  assert not [p for p in tmp_path.iterdir() if 'x.csv' in p.name]
