"""ResNets, alone and in front of a ViT, against the reference implementations."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import parameters
import pytest

from vit_jax.config.sections import ModelSection
from vit_jax.models import bit, layout, resnet, variants
from vit_jax.runtime.errors import UserError

HYBRID = variants.create(
    '', 10, patch_size=1, width=24, depth=2, mlp_dim=64, num_heads=2,
    resnet_width=32, resnet_blocks=(1, 1))


def _params(case):
  """The weights of the case: files keep GroupNorm as (1, 1, 1, C)."""
  new = {'MultiHeadDotProductAttention_1': 'MultiHeadDotProductAttention_0',
         'LayerNorm_2': 'LayerNorm_1', 'MlpBlock_3': 'MlpBlock_0'}
  flat = {}
  for name, value in golden.flatten(case['params']).items():
    name = '/'.join(new.get(part, part) for part in name.split('/'))
    flat[name] = value.ravel() if value.shape[:3] == (1, 1, 1) else value
  return golden.unflatten(flat)


def _close(actual, expected, **options):
  np.testing.assert_allclose(actual, expected, **{'atol': 5e-5, 'rtol': 1e-4} | options)


def _shapes(model, size):
  return jax.eval_shape(lambda: layout.init(model, jax.random.key(0), size))


@functools.cache
def _hybrid_case():
  case = golden.load_case('vitjax_hybrid')
  return case['io'], _params(case)


@pytest.mark.parametrize('name, model', [
    ('vitjax_hybrid', HYBRID),
    ('vitjax_hybrid_stem', HYBRID.with_options(patch_size=(4, 4), resnet_blocks=()))])
def test_hybrid_outputs(name, model):
  case = golden.load_case(name)
  params, io = _params(case), case['io']
  logits, out = jax.jit(model.apply)({'params': params}, io['image'])
  _close(out['patch_embedding'], io['embedding'])
  _close(out['encoder_norm'], io['encoder_tokens'])
  _close(out['pre_logits'], io['pre_logits'])
  _close(logits, io['logits'])
  assert {k: v.shape for k, v in golden.flatten(_shapes(model, (64, 64))).items()} == {
      k: v.shape for k, v in golden.flatten(params).items()}


@pytest.mark.parametrize('options, change', [
    ({'group_norm_eps': 1e-5}, 0.0192),
    ({'std_conv_eps_form': 'sqrt'}, 2.75),
    ({'std_conv_eps_form': 'sqrt', 'std_conv_eps': 1e-8}, 0.474)])
def test_eps_and_its_form_are_options(options, change):
  """Each moves the logits as much as meta.json says of this porting mistake."""
  io, params = _hybrid_case()
  model = HYBRID.with_options(**options)
  logits, _ = jax.jit(model.apply)({'params': params}, io['image'])
  assert np.abs(logits - io['logits']).max() == pytest.approx(change, rel=0.05)


@pytest.mark.parametrize('name, variant', [
    ('bv_bit_resnet', 'R50x1-v1'), ('bv_bit_paper', 'R50x1')])
def test_resnet_outputs(name, variant):
  case = golden.load_case(name)
  params, io = _params(case), case['io']
  model = variants.create(variant, 10, resnet_blocks=(1, 1), resnet_width=32)
  logits, out = jax.jit(model.apply)({'params': params}, io['image'])
  assert sorted(out) == ['block1', 'block2', 'logits', 'pre_logits', 'root']
  _close(out['root'], io['stem'])
  _close(out['pre_logits'], io['pre_logits'])
  _close(logits, io['logits'])
  assert {k: v.shape for k, v in golden.flatten(_shapes(model, (32, 32))).items()} == {
      k: v.shape for k, v in golden.flatten(params).items()}


def test_standardised_kernels():
  """Mean 0 and deviation 1 per output channel; a constant kernel becomes zero."""
  kernel = np.random.default_rng(0).normal(3, 7, (3, 3, 4, 5)).astype(np.float32)
  kernel[..., 0] = 2
  for version in (1, 2):
    actual = resnet.standardise(ModelSection(), version, jnp.asarray(kernel))
    _close(actual.mean((0, 1, 2)), np.zeros(5))
    _close(actual.std((0, 1, 2)), [0, 1, 1, 1, 1])


@pytest.mark.parametrize('variant, millions', [
    ('R+Ti/16', 6.14), ('R26+S/32', 36.05), ('R26+B/32', 100.61), ('R50+B/16', 97.89),
    ('R50+L/32', 327.97)])
def test_hybrid_sizes_as_printed(variant, millions):
  model = variants.create(variant, 0)
  assert round(parameters.count(model) / 1e6, 2) == millions


@pytest.mark.parametrize('variant, millions', [('R50x1', 25.55), ('R101x3', 387.93)])
def test_bit_sizes_as_published(variant, millions):
  """With 1000 classes, in timm's table of the converted weights."""
  model = variants.create(variant, 1000)
  assert round(parameters.count(model) / 1e6, 2) == millions


def test_flops_of_a_resnet50():
  """4.09 G multiply-adds, as torchvision counts them."""
  for variant in ('R50x1', 'R50x1-v1'):
    count = variants.create(variant, 1000).flops((224, 224))
    assert round(count / 2e9, 2) == 4.09


def test_hybrid_flops_are_what_xla_counts():
  model = HYBRID.with_options(resnet_blocks=(2, 1), width=128, mlp_dim=512)
  size = (128, 256)
  images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
  compiled = jax.jit(lambda p, x: model.apply({'params': p}, x)[0]).lower(
      _shapes(model, size), images).compile()
  # XLA adds norms and other elementwise work, and leaves out products with padding.
  assert compiled.cost_analysis()['flops'] == pytest.approx(
      2 * model.flops(size), rel=0.08)


def test_odd_sizes_round_up_at_every_stride():
  model = HYBRID.with_options(resnet_blocks=(1, 1))
  images = jax.ShapeDtypeStruct((1, 50, 34, 3), jnp.float32)
  out = jax.eval_shape(
      lambda p, x: model.apply({'params': p}, x)[1], _shapes(model, (50, 34)), images)
  assert out['root'].shape == (1, 13, 9, 32)
  assert out['block1'].shape == (1, 13, 9, 128)
  assert out['block2'].shape == (1, 7, 5, 256)
  with pytest.raises(ValueError, match="feature maps are 7 x 5 .*patch size 2 x 2"):
    _shapes(model.with_options(patch_size=(2, 2)), (50, 34))


def test_units_start_as_the_identity_of_their_input():
  """The last scale of a unit is zero, so that a fresh ResNet is a shallow one."""
  unit = resnet.Unit(ModelSection(dtype='float32'), 32, 1)
  x = np.random.default_rng(0).normal(size=(1, 2, 2, 128)).astype(np.float32)
  y, variables = jax.jit(unit.init_with_output)(jax.random.key(0), x)
  np.testing.assert_array_equal(y, np.maximum(x, 0))
  assert np.all(variables['params']['gn2']['scale'] == 1)


def test_from_a_section():
  model = variants.from_section(ModelSection(variant='R50+B/16'), 10, 'cpu')
  assert model == variants.create('R50+B/16', 10)
  assert (model.options.resnet_width, model.options.resnet_blocks) == (64, (3, 4, 9))
  model = variants.from_section(
      ModelSection(variant='R50x3-v1', resnet_blocks=(1, 1)), 10, 'gpu')
  assert model.version == 1
  assert model == bit.BiT(ModelSection(
      'R50x3-v1', resnet_blocks=(1, 1), resnet_width=192, dtype='bfloat16',
      pixel_mean=(0.5,) * 3, pixel_std=(0.5,) * 3), 10)


def test_version_as_an_option():
  """Exported models say it so."""
  model = variants.create('R50x1', 10, version=1)
  assert model == variants.create('R50x1-v1', 10) and model.settings()['version'] == 1
  assert variants.create('R50x1-v1', 10, version=2).version == 2
  with pytest.raises(UserError, match='version is 3; expected one of 1, 2'):
    variants.create('R50x1', 10, version=3)


@pytest.mark.parametrize('section, words', [
    (dict(resnet_width=48), ['resnet_width is 48', 'multiple of 32']),
    (dict(resnet_blocks=(3, 0), resnet_width=64), ['resnet_blocks is (3, 0)']),
    (dict(resnet_blocks=(3,)), ['resnet_blocks is (3,)', 'set resnet_width']),
    (dict(variant='R50x1', pool='gap'), ["BiT has no option 'pool'; leave it out"]),
    (dict(variant='R50x1', std_conv_eps_form='x'), ['auto, add, sqrt']),
    (dict(variant='R50x1', group_norm_eps=-1.0), ['0 for that of the original']),
    (dict(variant='R50+S/16'), ["did you mean 'R50+B/16'?", 'R26+S/32']),
    (dict(variant='BiT-M-R101x3'), ["did you mean 'R101x3'?"]),
    (dict(variant='resnet50x1'), ["did you mean 'R50x1'?"])])
def test_impossible_options(section, words):
  with pytest.raises(UserError) as error:
    variants.from_section(ModelSection(**section), 10, 'cpu')
  for word in words:
    assert word in str(error.value)
