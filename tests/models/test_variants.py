"""Published sizes have the published number of parameters; mistakes are named."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import parameters
import pytest

from vit_jax.config.sections import ModelSection
from vit_jax.models import layout, variants
from vit_jax.runtime.errors import UserError


@pytest.mark.parametrize('variant, pool, num_classes, count', [
    ('Ti/16', 'token', 1000, 5_717_416), ('S/16', 'token', 1000, 22_050_664),
    ('B/16', 'token', 1000, 86_567_656), ('B/16', 'token', 21843, 102_595_923),
    ('L/16', 'token', 1000, 304_326_632), ('L/16', 'token', 21843, 325_690_707),
    ('H/14', 'token', 1000, 632_045_800), ('H/14', 'token', 21843, 658_745_683)])
def test_exact_parameter_counts(variant, pool, num_classes, count):
  model = variants.create(variant, num_classes, pool=pool)
  assert parameters.count(model) == count


@pytest.mark.parametrize('variant, pool, millions, digits', [
    ('mu/16', 'gap', 0.0436, 4), ('Ti/16', 'token', 5.52, 2),
    ('S/16', 'token', 21.67, 2), ('S/32', 'token', 22.49, 2), ('M/16', 'gap', 38.3, 1),
    ('B/8', 'token', 85.81, 2), ('B/16', 'token', 85.80, 2),
    ('B/32', 'token', 87.46, 2), ('L/16', 'token', 303.30, 2),
    ('L/32', 'token', 305.51, 2), ('So400m/14', 'gap', 412.4, 1),
    ('So400m/14', 'map', 427.7, 1), ('H/14', 'token', 630.76, 2),
    ('g/14', 'gap', 1011, 0), ('g-opt/16', 'gap', 1135, 0), ('G/14', 'gap', 1843, 0),
    ('G-opt/16', 'gap', 1663, 0), ('e/14', 'gap', 3805, 0)])
def test_backbone_sizes_as_printed(variant, pool, millions, digits):
  model = variants.create(variant, 0, pool=pool)
  count = parameters.count(model)
  assert round(count / 1e6, digits) == millions


def test_scan_and_unrolled_have_the_same_count():
  for scan in (False, True):
    model = variants.create('Ti/16', 1000, scan=scan)
    shapes = jax.eval_shape(
        lambda model=model: layout.init(model, jax.random.key(0), (224, 224)))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == 5_717_416


def test_decode_any_patch():
  options = variants.create('B/16', 0).options
  assert options == ModelSection(
      'B/16', width=768, depth=12, mlp_dim=3072, num_heads=12, patch_size=(16, 16),
      pixel_mean=(0.5,) * 3, pixel_std=(0.5,) * 3, dtype='float32')
  assert variants.create('g-opt/20x12', 0).options.patch_size == (20, 12)


@pytest.mark.parametrize('name, nearest', [
    ('B', 'B/16'), ('b/16', 'B/16'), ('B-16', 'B/16'), ('So400/14', 'So400m/14'),
    ('B/0', 'B/16'), ('B/16x', 'B/16'), ('ViT-L/32', 'L/32'), ('gopt/16', 'g-opt/16'),
    ('ti/16', 'Ti/16'), ('vit_huge/14', 'H/14'), ('/16', 'B/16'), ('Q/8', 'B/8')])
def test_unknown_variant(name, nearest):
  with pytest.raises(UserError) as error:
    variants.create(name, 0)
  assert repr(name) in str(error.value) and f'{nearest!r}?' in str(error.value)
  variants.create(nearest, 0)


def test_create_overrides():
  model = variants.create('S/16', 7, depth=2, patch_size=8, dtype='bfloat16')
  options = model.options
  assert (options.width, options.depth, options.patch_size) == (384, 2, (8, 8))
  assert model.num_classes == 7 and model.dtype == jnp.bfloat16


def test_section_defaults_are_the_model_defaults():
  """A config that sets nothing and plain Python build the same model."""
  assert variants.from_section(ModelSection(), 10, 'cpu') == variants.create(
      'S/16', 10)


def test_every_section_field_reaches_the_model():
  section = ModelSection(
      variant='', width=24, depth=2, mlp_dim=40, num_heads=3, patch_size=(4, 8),
      pool='map', representation_size=9, position_embedding='sincos2d', registers=2,
      dropout=0.1, attention_dropout=0.2, stochastic_depth=0.3, head_bias_init=-10.0,
      layer_norm_eps=1e-12, gelu='exact', dtype='bfloat16', param_dtype='float32',
      scan=True, remat='dots', projection='3d', pool_norm=True,
      class_token='yes', position_prefix='all', patch_bias=False, pre_norm=True,
      qkv_bias=False, qk_norm=True, layer_scale=0.1, resnet_width=32,
      resnet_blocks=(1, 2), group_norm_eps=1e-4, std_conv_eps=1e-7,
      std_conv_eps_form='sqrt', softmax_dtype='compute', mask_embedding=True,
      pixel_mean=(0.4, 0.5, 0.6), pixel_std=(0.1, 0.2, 0.3))
  model = variants.from_section(section, 5, 'cpu')
  for name, value in dataclasses.asdict(section).items():
    if name not in ('variant', 'token_mlp_dim'):
      assert value != getattr(ModelSection(), name) or name == 'param_dtype', name
      assert getattr(model.options, name) == value, name


@pytest.mark.parametrize('platform, dtype, projection', [
    ('cpu', jnp.float32, 'auto'), ('gpu', jnp.bfloat16, 'auto'),
    ('tpu', jnp.bfloat16, '3d')])
def test_what_is_auto_depends_on_the_platform(platform, dtype, projection):
  model = variants.from_section(ModelSection(), 10, platform)
  assert model.dtype == dtype and model.param_dtype == jnp.float32
  assert model.options.projection == projection
  chosen = variants.from_section(ModelSection(projection='2d'), 10, platform)
  assert chosen.options.projection == '2d'
  # Other families have no such option.
  variants.from_section(ModelSection(variant='R50x1'), 10, platform)


@pytest.mark.parametrize('options, words', [
    ({'pool': 'mean'}, ['pool', "'mean'", 'token, gap, map, none']),
    ({'gelu': 'erf'}, ['gelu', "'erf'", 'tanh, exact']),
    ({'remat': 'all'}, ['remat', 'none, full, dots, dots_no_batch']),
    ({'projection': '4d'}, ['auto, 2d, 3d']),
    ({'softmax_dtype': 'bfloat16'}, ['float32, compute']),
    ({'position_embedding': 'rope'}, ['learned, sincos2d']),
    ({'dtype': 'bf16'}, ['dtype', "'bf16'", 'bfloat16', 'auto']),
    ({'param_dtype': 'int32'}, ['param_dtype', 'int32', 'float32']),
    ({'num_heads': 5}, ['width is 384', 'num_heads = 5']),
    ({'width': 6, 'position_embedding': 'sincos2d'}, ['width is 6', 'multiple of 4']),
    ({'depth': -1}, ['depth is -1', 'positive']),
    ({'registers': -1}, ['registers is -1']),
    ({'dropout': 1.0}, ['dropout is 1.0', '[0, 1)']),
    ({'stochastic_depth': -0.1}, ['stochastic_depth is -0.1']),
    ({'patch_size': (16,)}, ['patch_size is (16,)', '(height, width)'])])
def test_impossible_options(options, words):
  with pytest.raises(UserError) as error:
    variants.from_section(ModelSection(**options), 10, 'cpu')
  for word in words:
    assert word in str(error.value)


def test_unknown_option_suggests_the_nearest():
  with pytest.raises(UserError, match="'droput': did you mean 'dropout'"):
    variants.create('B/16', 10, droput=0.1)


def test_no_variant_names_the_missing_sizes():
  with pytest.raises(UserError, match='missing: patch_size, depth, num_heads'):
    variants.from_section(ModelSection(variant='', width=8, mlp_dim=9), 10, 'cpu')
