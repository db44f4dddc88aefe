"""Every file in configs/ builds and takes real steps on small data of its kind."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vit_jax import config as config_lib
from vit_jax.training import train

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'

# A model and a length that anyone can select with overrides.
SMALL = ('--config.total_epochs=0.0', '--config.total_steps=2', '--config.batch_size=8',
         '--config.model.width=16', '--config.model.depth=2',
         '--config.model.mlp_dim=32', '--config.model.num_heads=2',
         '--config.schedule.warmup_steps=1', '--config.log_every=1')


def _cifar(folder, name):
  """Forty images in the true format of the builder, without a download."""
  builder = tfds.builder(name, data_dir=str(folder))
  rng = np.random.default_rng(0)
  def examples(split):
    for i in range({'train': 24, 'test': 16}[split]):
      row = {'id': f'{split}{i}', 'label': int(rng.integers(10)),
             'image': rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)}
      yield i, row | ({'coarse_label': 0} if name == 'cifar100' else {})
  builder._split_generators = lambda *_: {s: examples(s) for s in ('train', 'test')}
  builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(register_checksums=False))
  return [f'--config.data.dir={folder}']


def _images(folder):
  rng = np.random.default_rng(0)
  for split in ('train', 'test'):
    for name in ('cat', 'dog'):
      (folder / split / name).mkdir(parents=True)
      for i in range(8):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / split / name / f'{i}.jpg')
  return ['--config.data.image_size=32', '--config.data.eval.resize_small=36']


DATA = {
    'digits.py': lambda folder: ('', []),
    'cifar10.py': lambda folder: ('', _cifar(folder, 'cifar10')),
    'folder.py': lambda folder: (f':{folder}', _images(folder)),
}


def test_every_config_is_tested():
  assert {p.name for p in CONFIGS.glob('*.py')} == set(DATA)


@pytest.mark.parametrize('name', DATA)
def test_config_takes_steps(name, tmp_path):
  argument, overrides = DATA[name](tmp_path / 'data')
  config = config_lib.load(f'{CONFIGS / name}{argument}', [*SMALL, *overrides])
  result = train(config, str(tmp_path / 'run'))
  assert 0 <= result['test/accuracy'] <= 1
  assert np.isfinite(result['test/loss'])
