"""Every file in configs/ resolves, and its debug form takes real steps on tiny data."""

import io
import json
import math
import pathlib

import numpy as np
import pytest
import tiny_tfds
from PIL import Image

from vit_jax import config as config_lib
from vit_jax.config.sections import DataSection
from vit_jax.data import imagenet21k, open_source
from vit_jax.models import variants
from vit_jax.runtime.errors import UserError
from vit_jax.sweep import cells, loading, vtab
from vit_jax.training.checks import check_run
from vit_jax.training.debug_form import debug_form
from vit_jax.training.loop import train
from vit_jax.training.reuse import Reuse

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
_PAPER_MODELS = ('B/16', 'B/32', 'L/16', 'L/32')

# Every word that the files' arguments may hold.
ARGUMENTS = {
    'digits.py': [''],
    'digits_sweep.py': [''],
    'cifar10.py': ['', 'cifar100'],
    'folder.py': ['', '/some/images'],
    'finetune.py': ['', 'imagenet', 'cifar10', 'cifar100', 'pets', 'flowers',
                    *(f'pets,{model}' for model in (*_PAPER_MODELS, 'H/14'))],
    'imagenet.py': ['', 'baseline', 'baseline,B/16',
                    *(f'paper,{model}' for model in _PAPER_MODELS)],
    'pretrain_i21k.py': ['', *_PAPER_MODELS, 'H/14'],
    'augreg_i21k.py': [
        '', 'reg', 'noreg,S/16', 'none', 'light1', 'light2', 'medium1', 'medium2',
        'strong1,L/16', 'strong2', 'Ti/16', 'S/32', 'S/16', 'B/32', 'B/16', 'L/16',
        'R+Ti/16', 'R26+S/32', 'R50+L/32'],
    'multilabel.py': ['', 'voc/2007', *(f'my_data:1.*.*,{model}' for model in (
        *_PAPER_MODELS, 'H/14'))],
    'masked_patches.py': ['', 'imagenet21k', 'digits', 'voc/2007'],
    'vtab.py': ['', *vtab.TASKS, 'svhn,full', 'svhn,lightweight,1k', 'paper',
                'full,dtd,lightweight', *_PAPER_MODELS, 'H/14', 'H/14,lightweight'],
}
SWEEPS = ('digits_sweep.py', *(f'finetune.py:{data}' for data in (
    'imagenet', 'cifar10', 'cifar100', 'pets', 'flowers')), 'vtab.py',
    'vtab.py:H/14,lightweight', 'vtab.py:full')


def test_every_config_is_tested():
  assert {p.name for p in CONFIGS.glob('*.py')} == set(ARGUMENTS)


@pytest.mark.parametrize('name', ARGUMENTS)
def test_every_argument_resolves(name):
  for argument in ARGUMENTS[name]:
    config = config_lib.load(f'{CONFIGS / name}:{argument}' if argument
                             else str(CONFIGS / name))
    for form in (config, debug_form(config)):
      check_run(form)
      model = variants.from_section(form.model, 1, 'cpu')
      patch = model.options.patch_size or (1, 1)
      for size, side in zip(form.data.image_size, patch, strict=True):
        assert size % side == 0, (name, argument)


@pytest.mark.parametrize('spec', SWEEPS)
def test_every_run_of_a_sweep_resolves(spec):
  cells.check_cells(loading.load(f'{CONFIGS}/{spec}'))


@pytest.mark.parametrize('spec, message', [
    ('finetune.py:cifar1O', "Did you mean 'cifar10'"),
    ('finetune.py:pets,flowers', 'names two of'),
    ('vtab.py:svhn,b/16', "Did you mean 'B/16'"),
    ('augreg_i21k.py:medium', "Did you mean 'medium[12]'"),
])
def test_unknown_words_of_an_argument(spec, message):
  with pytest.raises(UserError, match=message):
    config_lib.load(f'{CONFIGS}/{spec}')


# Table 3 of the ViT paper: epochs, learning rate, decay, weight decay, dropout, and its
# caption: gradients are clipped on ImageNet alone.
TABLE_3 = {
    'multilabel.py:jft,B/16': (7, 8e-4, 'linear', 0.1, 0.0, 0.0),
    'multilabel.py:jft,B/32': (7, 8e-4, 'linear', 0.1, 0.0, 0.0),
    'multilabel.py:jft,L/32': (7, 6e-4, 'linear', 0.1, 0.0, 0.0),
    'multilabel.py:jft,L/16': (14, 4e-4, 'linear', 0.1, 0.0, 0.0),
    'multilabel.py:jft,H/14': (14, 3e-4, 'linear', 0.1, 0.0, 0.0),
    'pretrain_i21k.py:B/16': (90, 1e-3, 'linear', 0.03, 0.1, 0.0),
    'pretrain_i21k.py:L/16': (90, 1e-3, 'linear', 0.03, 0.1, 0.0),
    'imagenet.py:paper,B/16': (300, 3e-3, 'cosine', 0.3, 0.1, 1.0),
    'imagenet.py:paper,L/32': (300, 3e-3, 'cosine', 0.3, 0.1, 1.0),
}


@pytest.mark.parametrize('spec', TABLE_3)
def test_pre_training_as_in_table_3(spec):
  config = config_lib.load(f'{CONFIGS}/{spec}')
  optimizer, schedule = config.optimizer, config.schedule
  assert (config.total_epochs, optimizer.learning_rate, schedule.name,
          optimizer.weight_decay, config.model.dropout,
          optimizer.clip_norm) == TABLE_3[spec]
  assert (config.batch_size, schedule.warmup_steps, optimizer.b1, optimizer.b2,
          config.data.image_size) == (4096, 10_000, 0.9, 0.999, (224, 224))


# Table 4 of the ViT paper, and the dev splits of its released code on the real sizes:
# steps, learning rates, examples of the search's train and val, of train and test.
TABLE_4 = {
    'imagenet': (20_000, (0.003, 0.01, 0.03, 0.06), 1_268_355, 12_812, 1_281_167,
                 50_000, {'train': 1_281_167, 'validation': 50_000}),
    'cifar10': (10_000, (0.001, 0.003, 0.01, 0.03), 49_000, 1000, 50_000, 10_000,
                {'train': 50_000, 'test': 10_000}),
    'cifar100': (10_000, (0.001, 0.003, 0.01, 0.03), 49_000, 1000, 50_000, 10_000,
                 {'train': 50_000, 'test': 10_000}),
    'pets': (500, (0.001, 0.003, 0.01, 0.03), 3312, 368, 3680, 3669,
             {'train': 3680, 'test': 3669}),
    'flowers': (500, (0.001, 0.003, 0.01, 0.03), 918, 102, 1020, 6149,
                {'train': 1020, 'validation': 1020, 'test': 6149}),
}


@pytest.mark.parametrize('name', TABLE_4)
def test_fine_tuning_as_in_table_4(name, tmp_path):
  steps, rates, *counts, sizes = TABLE_4[name]
  sweep = loading.load(f'{CONFIGS}/finetune.py:{name}')
  base, task = sweep.base, sweep.tasks[name]
  assert (base.total_steps, sweep.grid['optimizer.learning_rate']) == (steps, rates)
  assert (base.batch_size, base.optimizer.name, base.optimizer.momentum,
          base.optimizer.weight_decay, base.optimizer.clip_norm, base.schedule.name,
          base.data.image_size) == (512, 'sgd', 0.9, 0.0, 1.0, 'cosine', (384, 384))
  tiny_tfds.write_metadata(base.data.name, tmp_path, sizes)
  data = DataSection(name=base.data.name, dir=str(tmp_path))
  search, final = task.search, {**task.search, **task.final}
  assert [open_source(data, split).num_examples for split in (
      search['data.train_split'], search['data.val_split'], final['data.train_split'],
      final['data.test_split'])] == counts
  assert not search['data.test_split'] and not final['data.val_split']


def _images(folder):
  rng = np.random.default_rng(0)
  for split in ('train', 'test'):
    for name in ('cat', 'dog'):
      (folder / split / name).mkdir(parents=True)
      for i in range(8):
        Image.fromarray(tiny_tfds.picture(rng, 40, 50)).save(
            folder / split / name / f'{i}.jpg')


def _imagenet21k(folder):
  """Through our own builder, from a download in small."""
  rng = np.random.default_rng(0)
  for wnid in ('n00004475', 'n01440764', 'n02084071'):
    (folder / 'download' / wnid).mkdir(parents=True)
    for i in range(14):
      buffer = io.BytesIO()
      Image.fromarray(tiny_tfds.picture(rng)).save(buffer, 'JPEG')
      (folder / 'download' / wnid / f'{wnid}_{i}.JPEG').write_bytes(buffer.getvalue())
  imagenet21k.prepare(str(folder / 'download'), str(folder))


_FULL = {'data.train_split': 'full[16:]', 'data.val_split': 'full[8:16]',
         'data.test_split': 'full[:8]'}
_IMAGENET = {'imagenet2012:5.*.*': {'train': 60, 'validation': 10},
             'imagenet2012_real': {'validation': 11}, 'imagenet_v2': {'test': 9}}
_CIFAR = {'train': 24, 'test': 10}
# Of which 2% are at least one example.
_FROM_SCRATCH = {**_CIFAR, 'train': 48}
_SLOW = pytest.mark.slow

# Spec, the data sets to write, settings for their size, what is measured besides test.
RUNS = [
    pytest.param('digits.py', {}, {}, (), marks=_SLOW),
    pytest.param('digits_sweep.py', {}, {}, (), marks=_SLOW),
    pytest.param('cifar10.py', {'cifar10': _FROM_SCRATCH}, {}, (), marks=_SLOW),
    pytest.param('cifar10.py:cifar100', {'cifar100': _FROM_SCRATCH}, {}, (),
                 marks=_SLOW),
    ('folder.py', _images, {}, ()),
    ('finetune.py:imagenet', _IMAGENET, {}, ('real/accuracy',)),
    pytest.param('finetune.py:cifar10', {'cifar10': _CIFAR}, {}, (), marks=_SLOW),
    pytest.param('finetune.py:cifar100,L/32', {'cifar100': _CIFAR}, {}, (),
                 marks=_SLOW),
    pytest.param('finetune.py:pets,H/14', {'oxford_iiit_pet': _CIFAR}, {}, (),
                 marks=_SLOW),
    pytest.param('finetune.py:flowers', {'oxford_flowers102': {
        **_CIFAR, 'validation': 10}}, {}, (), marks=_SLOW),
    pytest.param('imagenet.py', _IMAGENET, {},
                 ('real/accuracy', 'v2/accuracy', 'val/accuracy'), marks=_SLOW),
    pytest.param('imagenet.py:paper,B/32', _IMAGENET, {},
                 ('real/accuracy', 'v2/accuracy', 'val/accuracy'), marks=_SLOW),
    pytest.param('pretrain_i21k.py', _imagenet21k, _FULL, ('val/accuracy',),
                 marks=_SLOW),
    ('augreg_i21k.py:strong1,reg', _imagenet21k, _FULL, ('val/accuracy',)),
    pytest.param('augreg_i21k.py:R50+L/32', _imagenet21k, _FULL, ('val/accuracy',),
                 marks=_SLOW),
    ('multilabel.py:voc/2007', {
        'voc/2007': {**_CIFAR, 'validation': 8}}, {}, ('val/accuracy',)),
    ('masked_patches.py', _imagenet21k, _FULL, ('val/accuracy',)),
]


@pytest.fixture(scope='module')
def reuse():
  return Reuse()


@pytest.mark.slow
@pytest.mark.parametrize('spec, data, settings, measured', RUNS)
def test_debug_form_takes_steps(spec, data, settings, measured, tmp_path, reuse):
  folder = tmp_path / 'data'
  config = config_lib.load(f'{CONFIGS}/{spec}')
  if callable(data):
    folder.mkdir()
    data(folder)
  else:
    for name, sizes in data.items():
      tiny_tfds.write(name, folder, sizes)
  if data:
    settings = {**settings, 'data.dir': str(folder)}
  config = debug_form(config_lib.with_values(config, settings))
  result = train(config, str(tmp_path / 'run'), reuse)
  assert set(measured) <= set(result)
  assert all(np.isfinite(value) for value in result.values())
  losses = [row['train/loss'] for row in map(
      json.loads, (tmp_path / 'run/metrics.jsonl').read_text().splitlines())
      if 'train/loss' in row]
  assert len(losses) == 3
  _check_first_loss(losses[0], config)
  # Parameters have changed, even by the two steps after the warm-up's first, at 0.
  assert abs(result['test/loss'] - losses[0]) > 1e-7


def _check_first_loss(loss, config):
  """Heads start at zero, so the first loss follows from the number of classes."""
  classes = 512  # colours, of the objective 'masked_patches'
  if config.objective == 'classification':
    classes = open_source(config.data, config.data.train_split).num_classes
  bias = config.model.head_bias_init
  if config.loss.name == 'softmax':
    assert loss == pytest.approx(math.log(classes), rel=1e-5)
    return
  none = classes * math.log1p(math.exp(bias))
  labels = (loss - none) / -bias
  if not config.data.max_labels:
    assert labels == pytest.approx(1, abs=1e-5)
    return
  # The mean number of different labels of the batch's images.
  assert 1 <= labels <= 10
  assert labels * config.batch_size == pytest.approx(
      round(labels * config.batch_size), abs=1e-4)
