"""Options that published weights need: which parameters they add, what they compute.

Agreement with the libraries that have them is tested with their files, in
tests/checkpoints.
"""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import parameters
import pytest

from vit_jax.config.sections import ModelSection
from vit_jax.models import blocks, layout, variants
from vit_jax.runtime.errors import UserError

TINY = variants.create(
    '', 5, patch_size=8, width=16, depth=2, mlp_dim=24, num_heads=2)
ALL = TINY.with_options(
    pool='gap', class_token='yes', registers=2, position_prefix='all', pool_norm=True,
    pre_norm=True, patch_bias=False, qkv_bias=False, qk_norm=True, layer_scale=0.1,
    gelu='quick', resnet_width=32, patch_size=(2, 2))
SIZE = (16, 24)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, *SIZE, 3)).astype(np.float32)
BLOCK = 'Transformer/encoderblock_0/'
ATTENTION = BLOCK + 'MultiHeadDotProductAttention_0/'
POSITIONS = 'Transformer/posembed_input/pos_embedding'


@functools.cache
def _apply(model, **options):
  return jax.jit(functools.partial(model.apply, **options))


def _shapes(model):
  params = jax.eval_shape(lambda: layout.init(model, jax.random.key(0), SIZE))
  return {k: v.shape for k, v in golden.flatten(params).items()}


def _params(model):
  rng = np.random.default_rng(1)
  return golden.unflatten({
      name: rng.normal(name.endswith('scale'), 0.2, shape).astype(np.float32)
      for name, shape in _shapes(model).items()})


def _close(actual, expected, **options):
  np.testing.assert_allclose(actual, expected, **{'atol': 1e-5, 'rtol': 1e-5} | options)


# --- parameters -----------------------------------------------------------------------


@pytest.mark.parametrize('options, added, removed', [
    ({'class_token': 'yes'}, {}, []),
    ({'class_token': 'no'}, {POSITIONS: (1, 6, 16)}, ['cls', POSITIONS]),
    ({'pool': 'gap', 'class_token': 'yes'}, {}, []),
    ({'position_prefix': 'none'}, {POSITIONS: (1, 6, 16)}, [POSITIONS]),
    ({'registers': 3}, {'register_tokens': (1, 3, 16)}, []),
    ({'registers': 3, 'position_prefix': 'all'},
     {'register_tokens': (1, 3, 16), POSITIONS: (1, 10, 16)}, [POSITIONS]),
    ({'patch_bias': False}, {}, ['embedding/bias']),
    ({'pre_norm': True}, {f'Transformer/pre_norm/{x}': (16,)
                          for x in ('scale', 'bias')}, []),
    ({'pool_norm': True}, {f'pool_norm/{x}': (16,) for x in ('scale', 'bias')},
     [f'Transformer/encoder_norm/{x}' for x in ('scale', 'bias')])])
def test_parameters_outside_the_blocks(options, added, removed):
  expected = {k: v for k, v in _shapes(TINY).items() if k not in removed} | added
  assert _shapes(TINY.with_options(**options)) == expected


@pytest.mark.parametrize('options, added, removed', [
    ({'qkv_bias': False}, {}, [ATTENTION + f'{x}/bias' for x in (
        'query', 'key', 'value')]),
    ({'qk_norm': True}, {ATTENTION + f'{x}_norm/{y}': (8,)
                         for x in ('query', 'key') for y in ('scale', 'bias')}, []),
    ({'layer_scale': 1e-5}, {BLOCK + f'layer_scale_{i}': (16,) for i in (0, 1)}, [])])
def test_parameters_of_a_block(options, added, removed):
  """The attention pooling has none of them."""
  model = TINY.with_options(pool='map')
  both = [s.replace('_0/', '_1/', 1) for s in removed]
  both_added = {k.replace('_0/', '_1/', 1): v for k, v in added.items()}
  expected = {k: v for k, v in _shapes(model).items() if k not in [*removed, *both]}
  assert _shapes(model.with_options(**options)) == expected | added | both_added


def test_layer_scale_starts_at_its_value():
  init = jax.jit(lambda: layout.init(
      TINY.with_options(layer_scale=1e-5), jax.random.key(0), SIZE))
  block = init()['Transformer']['encoderblock_1']
  assert np.all(block['layer_scale_1'] == np.float32(1e-5))


# --- results --------------------------------------------------------------------------


def test_positions_without_the_class_token():
  """big_vision's order: positions on the patches, then the class token."""
  case = golden.load_case('bv_tok')
  params = case['params']['params']
  embedding = {'pos_embedding': params.pop('pos_embedding')}
  params['Transformer']['posembed_input'] = embedding
  model = variants.create(
      '', 10, patch_size=8, width=24, depth=2, mlp_dim=64, num_heads=3,
      position_prefix='none')
  logits, out = _apply(model)({'params': params}, case['io']['image'])
  _close(out['encoder_norm'], case['io']['encoded'], atol=5e-5, rtol=1e-4)
  _close(logits, case['io']['logits'], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize('prefix, entries', [('class', 1), ('all', 3), ('none', 0)])
def test_which_tokens_have_positions(prefix, entries):
  """With everything else zero, the tokens show the row of the table they got."""
  model = TINY.with_options(
      depth=1, registers=2, position_prefix=prefix, pool_norm=True)
  params = jax.tree.map(np.zeros_like, _params(model))
  table = np.arange(1, entries + 7, dtype=np.float32)[:, None] * np.ones(16)
  params['Transformer']['posembed_input']['pos_embedding'] += table[None]
  _, out = _apply(model)({'params': params}, IMAGES)
  expected = [*range(1, entries + 1), *[0] * (3 - entries),
              *range(entries + 1, entries + 7)]
  assert out['encoder_norm'][0, :, 0].tolist() == expected


@pytest.mark.parametrize('options, vector', [
    ({'pool': 'gap', 'class_token': 'yes', 'registers': 2},
     lambda x: x[:, 3:].mean(1)),
    ({'pool': 'token', 'class_token': 'no'}, lambda x: x[:, 0]),
    ({'pool': 'none', 'class_token': 'yes'}, lambda x: x)])
def test_pooled_tokens(options, vector):
  """Means leave class token and registers out; 'token' is the first, whatever it is."""
  model = TINY.with_options(**options)
  _, out = _apply(model)({'params': _params(model)}, IMAGES)
  _close(out['pre_logits'], vector(out['encoder_norm']))


def test_attention_pooling_sees_patches_alone():
  model = TINY.with_options(pool='map', class_token='yes', registers=1)
  _, out = _apply(model, attention_weights=True)({'params': _params(model)}, IMAGES)
  assert out['attention_00'].shape == (3, 2, 8, 8)
  assert out['attention_pool'].shape == (3, 2, 1, 6)


def _layer_norm(x, params):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  return x * params['scale'] + params['bias']


def test_norm_after_pooling():
  model = TINY.with_options(pool='gap', pool_norm=True)
  params = _params(model)
  _, out = _apply(model)({'params': params}, IMAGES)
  _close(out['encoder_norm'], out['block_01'])
  mean = np.asarray(out['block_01'], np.float64).mean(1)
  _close(out['pre_logits'], _layer_norm(mean, params['pool_norm']), atol=1e-4)


def test_normalised_queries_and_keys():
  """Before the scaling by the head size; re-derived in numpy."""
  model = TINY.with_options(pool='gap', qk_norm=True, qkv_bias=False, pre_norm=True)
  params = _params(model)
  _, out = _apply(model, attention_weights=True)({'params': params}, IMAGES)
  encoder = params['Transformer']
  x = np.asarray(out['patch_embedding'], np.float64).reshape(3, 6, 16)
  x = _layer_norm(x + encoder['posembed_input']['pos_embedding'], encoder['pre_norm'])
  x = _layer_norm(x, encoder['encoderblock_0']['LayerNorm_0'])
  attention = encoder['encoderblock_0']['MultiHeadDotProductAttention_0']
  q, k = (
      _layer_norm(np.einsum('BLD,DNK->BNLK', x, attention[name]['kernel']),
                  attention[f'{name}_norm']) for name in ('query', 'key'))
  exps = np.exp(np.einsum('BNQK,BNLK->BNQL', q, k) / np.sqrt(8))
  _close(out['attention_00'], exps / exps.sum(-1, keepdims=True), rtol=1e-4)


def test_layer_scale_scales_its_branch():
  """Zero for the attention and two for the MLP of the first block."""
  model = TINY.with_options(layer_scale=0.5, depth=1)
  params = _params(model)
  block = params['Transformer']['encoderblock_0']
  scales = {'layer_scale_0': np.zeros(16), 'layer_scale_1': 2 * np.ones(16)}
  block |= scales
  tokens = np.random.default_rng(3).normal(size=(2, 4, 16)).astype(np.float32)
  actual, _ = blocks.Block(model.options).apply({'params': block}, tokens)
  branch = blocks.Mlp(model.options).apply(
      {'params': block['MlpBlock_0']},
      _layer_norm(tokens, block['LayerNorm_1']).astype(np.float32))
  _close(actual, tokens + 2 * branch, atol=1e-4)


def test_gelus():
  """Values of the three forms at 1: Phi(1), its tanh form, the logistic form."""
  values = {name: float(f(jnp.float32(1))) for name, f in blocks.GELUS.items()}
  assert values == pytest.approx(
      {'exact': 0.841345, 'tanh': 0.841192, 'quick': 0.845796}, abs=1e-6)


def test_scan_is_the_same_model():
  unrolled, scanned = (
      ALL.with_options(scan=scan, dropout=0.2, stochastic_depth=0.3)
      for scan in (False, True))
  params, keys = _params(ALL), {'dropout': jax.random.key(1)}
  expected, out = _apply(unrolled, train=True)({'params': params}, IMAGES, rngs=keys)
  actual, _ = _apply(scanned, train=True)(
      {'params': parameters.stacked(params)}, IMAGES, rngs=keys)
  assert out['encoder_norm'].shape == (3, 9, 16)
  _close(actual, expected)


# --- checks ---------------------------------------------------------------------------


@pytest.mark.parametrize('options, words', [
    ({'class_token': 'maybe'}, ['class_token', 'auto, yes, no']),
    ({'position_prefix': 'cls'}, ['position_prefix', 'class, all, none']),
    ({'gelu': 'quack'}, ['tanh, exact, quick']),
    ({'layer_scale': -1.0}, ['layer_scale is -1.0', '0 for none'])])
def test_impossible_options(options, words):
  with pytest.raises(UserError) as error:
    variants.from_section(ModelSection(**options), 10, 'cpu')
  for word in words:
    assert word in str(error.value)
