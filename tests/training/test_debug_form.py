"""The debug form keeps a recipe's structure and shrinks its sizes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from vit_jax import config as config_lib
from vit_jax.cli import main as main_module
from vit_jax.config import sections
from vit_jax.data import open_input
from vit_jax.models import layout, variants
from vit_jax.preprocessing import placement
from vit_jax.training.checks import check_run
from vit_jax.training.debug_form import debug_form


def recipe(**settings):
  return config_lib.check(config_lib.with_values(
      sections.Config(total_steps=1000, batch_size=256),
      {name.replace('__', '.'): value for name, value in settings.items()}))


@pytest.mark.parametrize('variant, size', [
    ('B/16', (224, 224)), ('H/14', (224, 224)), ('B/16', (256, 512)),
    ('Ti/16x8', (64, 32)), ('R+Ti/16', (224, 224)), ('R50+B/16', (384, 384)),
    ('R26+S/32', (224, 224)), ('Mixer-B/32', (224, 224)), ('R50x1', (224, 224)),
    ('R152x4', (480, 480)), ('R50x1-v1', (224, 224)), ('B/32', (32, 32))])
def test_models_of_all_kinds_are_built(variant, size):
  config = debug_form(recipe(model__variant=variant, data__image_size=size))
  model = variants.from_section(config.model, 10, 'cpu')
  full = variants.create(variant, 10)
  assert type(model) is type(full)
  def build():
    params = layout.init(model, jax.random.key(0), config.data.image_size)
    images = jnp.zeros((1, *config.data.image_size, 3))
    return params, model.apply({'params': params}, images)[0]
  params, logits = jax.eval_shape(build)
  assert logits.shape == (1, 10)
  assert sum(p.size for p in jax.tree.leaves(params)) < 2_200_000
  assert model.options.patch_size == full.options.patch_size
  height, width = config.data.image_size
  assert height * size[1] == width * size[0]
  # The blocks of a ResNet stay as many as they were.
  assert len(model.options.resnet_blocks) == len(full.options.resnet_blocks)


def test_sizes_without_a_variant():
  config = debug_form(recipe(
      model__variant='', model__patch_size=(4, 4), model__width=64, model__depth=4,
      model__mlp_dim=256, model__num_heads=4, model__representation_size=64,
      data__image_size=(16, 16)))
  check_run(config)
  assert config.data.image_size == (8, 8)
  assert config.model.representation_size == config.model.width < 64


@pytest.mark.parametrize('size', [(384, 384), (224, 448), (300, 200)])
@pytest.mark.parametrize('train', [
    dict(resize=(448, 448), crop='random', flip=True),
    dict(resize_small=512, crop='random', pad=4), dict(crop='inception')])
def test_crops_stay_possible(size, train):
  if train.get('resize'):
    train = {**train, 'resize': tuple(round(s * 7 / 6) for s in size)}
  config = debug_form(recipe(data__image_size=size, model__variant='B/4', **{
      f'data__train__{name}': value for name, value in train.items()}))
  for section in (config.data.train, config.data.eval):
    placement.place_streamed(section, config.data.image_size, None)
    placement.place_streamed(section, config.data.image_size, (40, 40, 3))
  assert config.data.train.crop == train['crop']
  assert bool(config.data.train.resize) == bool(train.get('resize'))
  assert bool(config.data.train.resize_small) == bool(train.get('resize_small'))
  assert max(config.data.image_size) < max(size)


def test_what_is_no_size_stays():
  settings = dict(
      model__variant='L/16', model__dropout=0.1, model__stochastic_depth=0.2,
      model__scan=True, model__pool='gap', optimizer__name='adamw',
      optimizer__weight_decay=0.3, schedule__name='linear', loss__name='sigmoid',
      mixup__alpha=0.2, ema_decay=0.9, data__name='cifar100',
      data__train__randaugment_layers=2, data__train__flip=True,
      data__value_range=(0.0, 1.0), loss__label_smoothing=0.1, seed=7)
  config = debug_form(recipe(**settings))
  for name, value in settings.items():
    assert config_lib.get(config, name.replace('__', '.')) == value


def test_lengths_batch_and_devices():
  config = debug_form(recipe(
      schedule__warmup_steps=100, schedule__cooldown_steps=50, accum_steps=8,
      mesh__fsdp=32, eval_every=100, checkpoint__every=200, profile__steps=5,
      checkpoint__best_metric='test/accuracy', init__checkpoint='ViT-B_16.npz'))
  assert (config.total_steps, config.total_epochs, config.batch_size) == (3, 0.0, 8)
  assert (config.schedule.warmup_steps, config.schedule.cooldown_steps) == (1, 1)
  assert (config.accum_steps, config.profile.steps) == (1, 0)
  assert config.mesh == sections.MeshSection()
  assert config.init.checkpoint == ''
  assert config.checkpoint.best_metric == 'test/accuracy'


def test_evaluators_are_kept():
  config = recipe(data__name='digits')
  config = config_lib.check(dataclasses.replace(config, evaluators=(
      sections.EvaluatorSection(name='few', kind='fewshot', every=10),)))
  small = debug_form(config)
  assert [(e.name, e.kind, e.every) for e in small.evaluators] == [
      ('few', 'fewshot', 1)]
  # It needs images of every class.
  assert small.data.max_examples == 0
  assert debug_form(recipe()).data.max_examples > 0


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
  folder = tmp_path_factory.mktemp('digits')
  return sections.DataSection(dir=str(folder), image_size=(8, 8))


@pytest.mark.parametrize('train', [True, False])
def test_only_the_first_examples(digits, train):
  every = open_input(digits, 'test', train=False)
  whole = next(every.start().eval_batches(300, range(300)))['label']
  few = open_input(
      dataclasses.replace(digits, max_examples=5), 'test', train=train)
  assert few.num_examples == 5
  if train:
    batch = next(few.start().train_batches(seed=0, batch_size=10, rows=range(10)))
    assert sorted(batch['label'][:5]) == sorted(whole[:5])
  else:
    batch = next(few.start().eval_batches(8, range(8)))
    assert list(batch['label'][batch['mask']]) == list(whole[:5])
  more = dataclasses.replace(digits, max_examples=10**6)
  assert open_input(more, 'test', train=False).num_examples == every.num_examples


def test_command_prints_the_debug_form(tmp_path, capsys):
  path = tmp_path / 'c.py'
  path.write_text('def get_config():\n  return {"total_epochs": 90.0}\n')
  argv = ['config', f'--config={path}', '--debug', '--json',
          '--config.model.variant=H/14', '--config.data.image_size=224']
  assert main_module.main(argv) == 0
  values = json.loads(capsys.readouterr().out)
  assert values['total_steps'] == 3 and values['data']['image_size'] == [28, 28]
  assert main_module.main(argv[:2] + argv[3:]) == 0
  values = json.loads(capsys.readouterr().out)
  assert values['total_epochs'] == 90 and values['data']['image_size'] == [224, 224]
