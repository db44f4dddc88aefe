"""The Vision Transformer against the reference implementations' own numbers."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import blocks, layout, positions, variants

TINY = variants.create(
    '', 5, patch_size=8, width=32, depth=2, mlp_dim=48, num_heads=2)
KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 16, 24, 3)).astype(np.float32)


def _images(*shape):
  return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


# Without LLVM's optimizations: compiling is what these tests spend their time on.
_jit = functools.partial(
    jax.jit, compiler_options={'xla_backend_optimization_level': 0})


@functools.cache
def _apply(model, **options):
  return _jit(functools.partial(model.apply, **options))


def _init(model, image_size=(16, 24)):
  return _jit(functools.partial(layout.init, model, image_size=image_size))


def _params(model, image_size=(16, 24)):
  """Random parameters: the real initial ones hide too much behind zeros."""
  shapes = jax.eval_shape(lambda: layout.init(model, KEY, image_size))
  rng = np.random.default_rng(2)
  return jax.tree_util.tree_map_with_path(
      lambda path, x: rng.normal(
          path[-1].key == 'scale', 0.2, x.shape).astype(x.dtype), shapes)


def _close(actual, expected, **options):
  np.testing.assert_allclose(actual, expected, **{'atol': 5e-5, 'rtol': 1e-4} | options)


# --- golden cases -------------------------------------------------------------------


def _original_model(meta, **options):
  """The model of an original vit_jax config."""
  config = meta['config']
  transformer = config['transformer']
  pools = {'token': 'token', 'gap': 'gap', 'unpooled': 'none'}
  return variants.create(
      '', meta.get('num_classes', 0),
      patch_size=tuple(config['patches']['size']), width=config['hidden_size'],
      depth=transformer['num_layers'], mlp_dim=transformer['mlp_dim'],
      num_heads=transformer['num_heads'],
      pool=pools[config['classifier']],
      representation_size=config['representation_size'] or 0, **options)


def _linen_names(params):
  """The published files number all parts of a block with one counter."""
  new = {'MultiHeadDotProductAttention_1': 'MultiHeadDotProductAttention_0',
         'LayerNorm_2': 'LayerNorm_1', 'MlpBlock_3': 'MlpBlock_0'}
  encoder = {
      name: {new.get(k, k): v for k, v in value.items()}
      for name, value in params['Transformer'].items()}
  return params | {'Transformer': encoder}


@pytest.mark.parametrize(
    'name', ['vitjax_token', 'vitjax_gap', 'vitjax_repsize', 'vitjax_headless'])
def test_original_outputs(name):
  case = golden.load_case(name)
  model = _original_model(case['meta'])
  params = _linen_names(case['params'])
  logits, out = _apply(model)({'params': params}, case['io']['image'])
  _close(out['patch_embedding'], case['io']['embedding'])
  _close(out['encoder_norm'], case['io']['encoder_tokens'])
  _close(out['pre_logits'], case['io']['pre_logits'])
  _close(out['logits'], case['io']['logits'])
  np.testing.assert_array_equal(logits, out['logits'])


def test_original_names_and_shapes():
  """A fresh model has exactly the parameters of the reference's file."""
  case = golden.load_case('vitjax_repsize')
  model = _original_model(case['meta'])
  params = jax.eval_shape(lambda: layout.init(model, KEY, case['meta']['image_hw']))
  expected = golden.flatten(_linen_names(case['params']))
  assert {k: v.shape for k, v in golden.flatten(params).items()} == {
      k: v.shape for k, v in expected.items()}


def test_original_gradients():
  case = golden.load_case('vitjax_grads')
  model = _original_model(case['meta'] | {'num_classes': 10})

  @_jit
  @jax.value_and_grad
  def loss_and_grads(params):
    logits, _ = model.apply({'params': params}, case['io']['image'], train=True)
    losses = jax.nn.log_softmax(logits)[jnp.arange(6), case['io']['labels']]
    return -losses.mean()

  loss, grads = loss_and_grads(case['params'])
  _close(loss, case['io']['loss'])
  actual = golden.flatten(grads)
  expected = golden.flatten(case['grads'])
  largest = max(np.abs(x).max() for x in expected.values())
  assert actual.keys() == expected.keys()
  for name in expected:
    _close(actual[name], expected[name], atol=1e-5 * largest, rtol=0, err_msg=name)


def _big_vision_case(name):
  """The case with its positions where the original release has them."""
  case = golden.load_case(name)
  params = dict(case['params']['params'])
  if 'pos_embedding' in params:
    embedding = {'pos_embedding': params.pop('pos_embedding')}
    params['Transformer'] |= {'posembed_input': embedding}
  return case['io'], params


@pytest.mark.parametrize('name, options', [
    ('bv_map', {'pool': 'map'}),
    ('bv_sincos2d_rep', {'pool': 'gap', 'position_embedding': 'sincos2d',
                         'representation_size': 24})])
def test_big_vision_outputs(name, options):
  """Attention pooling; fixed positions on an image that isn't square."""
  io, params = _big_vision_case(name)
  model = variants.create(
      '', 10, patch_size=8, width=24, depth=2, mlp_dim=64, num_heads=3, **options)
  logits, out = _apply(model)({'params': params}, io['image'])
  _close(logits, io['logits'])
  _close(out['pre_logits'], io['pre_logits'])
  _close(out['encoder_norm'], io['encoded'])


def test_headless_logits_are_pooled_features():
  """A model built for features gives the pre_logits that the full model computes."""
  case = golden.load_case('vitjax_repsize')
  model = _original_model(case['meta'] | {'num_classes': 0})
  params = _linen_names(case['params'])
  del params['head']
  logits, _ = _apply(model)({'params': params}, case['io']['image'])
  _close(logits, case['io']['pre_logits'])


def test_gelu_and_eps_are_options():
  """Of the size that meta.json states for these two porting mistakes."""
  case = golden.load_case('vitjax_token')
  for options, change in [({'gelu': 'exact'}, 0.00055),
                          ({'layer_norm_eps': 1e-5}, 0.989)]:
    model = _original_model(case['meta'], **options)
    logits, _ = _apply(model)({'params': case['params']}, case['io']['image'])
    moved = np.abs(logits - case['io']['logits']).max()
    assert moved == pytest.approx(change, rel=0.05)


# --- initial values -----------------------------------------------------------------


def test_initial_values():
  model = TINY.with_options(width=64, mlp_dim=128, head_bias_init=-3.5)
  params = _init(model, (64, 64))(KEY)
  block = params['Transformer']['encoderblock_1']
  attention = block['MultiHeadDotProductAttention_0']
  for name in ('query', 'key', 'value', 'out'):
    # Xavier of the 64 x 64 matrix, not of the (64, 2, 32) tensor.
    assert np.abs(attention[name]['kernel']).max() == pytest.approx(
        (6 / 128) ** 0.5, rel=0.01)
    assert not np.any(attention[name]['bias'])
  mlp = block['MlpBlock_0']
  assert np.abs(mlp['Dense_0']['kernel']).max() == pytest.approx(
      (6 / 192) ** 0.5, rel=0.01)
  assert 0.5e-6 < np.std(mlp['Dense_0']['bias']) < 2e-6
  assert np.std(params['embedding']['kernel']) == pytest.approx(192 ** -0.5, rel=0.05)
  assert np.std(params['Transformer']['posembed_input']['pos_embedding']) == (
      pytest.approx(0.02, rel=0.1))
  assert not np.any(params['cls'])
  logits, _ = _apply(model)({'params': params}, _images(2, 64, 64, 3))
  np.testing.assert_array_equal(logits, np.full((2, 5), -3.5, np.float32))


def test_different_keys_and_layers_differ():
  init = _init(TINY)
  one, two = (init(jax.random.key(i)) for i in range(2))
  kernel = lambda p, i: p['Transformer'][f'encoderblock_{i}']['MlpBlock_0'][  # noqa: E731
      'Dense_0']['kernel']
  assert np.any(kernel(one, 0) != kernel(two, 0))
  assert np.any(kernel(one, 0) != kernel(one, 1))


# --- positions, shapes, tokens --------------------------------------------------------


def test_sincos2d_closed_form():
  table = positions.sincos2d(2, 3, 16).reshape(2, 3, 16)
  omega = [1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4]
  for y in range(2):
    for x in range(3):
      expected = [f(v * o) for v, f in ((x, np.sin), (x, np.cos), (y, np.sin),
                                        (y, np.cos)) for o in omega]
      np.testing.assert_allclose(table[y, x], expected, atol=1e-6)


def test_fixed_positions_take_any_image_size():
  """And a class token has no position."""
  model = TINY.with_options(position_embedding='sincos2d')
  params = _params(model)
  assert 'posembed_input' not in params['Transformer']
  for size in [(16, 24), (32, 8)]:
    logits, out = _apply(model)({'params': params}, _images(1, *size, 3))
    assert logits.shape == (1, 5)
    assert out['patch_embedding'].shape == (1, size[0] // 8, size[1] // 8, 32)


@pytest.mark.parametrize('pool, tokens, logits', [
    ('token', 1 + 3 + 6, (3, 5)), ('gap', 3 + 6, (3, 5)),
    ('map', 3 + 6, (3, 5)), ('none', 3 + 6, (3, 9, 5))])
def test_shapes_with_registers(pool, tokens, logits):
  model = TINY.with_options(pool=pool, registers=3, patch_size=(8, 8))
  params = _params(model)
  actual, out = _apply(model)({'params': params}, IMAGES)
  assert actual.shape == logits
  assert out['encoder_norm'].shape == (3, tokens, 32)
  assert sorted(out) == ['block_00', 'block_01', 'encoder_norm', 'logits',
                         'patch_embedding', 'pre_logits']
  # Registers carry no position, so the embedding has entries for the others alone.
  embedding = params['Transformer']['posembed_input']['pos_embedding']
  assert embedding.shape == (1, tokens - 3, 32)
  if pool == 'gap':
    _close(out['pre_logits'], out['encoder_norm'][:, 3:].mean(1), atol=1e-6)


def test_registers_come_after_the_class_token():
  """With the blocks switched off, the tokens show through the last norm."""
  model = TINY.with_options(registers=2)
  params = jax.tree.map(np.zeros_like, _params(model))
  params['Transformer']['encoder_norm']['scale'] += 1
  params['cls'] += np.eye(32)[0]
  params['register_tokens'] += np.eye(32)[[1, 2]]
  params['embedding']['bias'] += np.eye(32)[3]
  _, out = _apply(model)({'params': params}, IMAGES)
  assert out['encoder_norm'][0].argmax(-1).tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3]


def test_patches_that_are_not_square():
  """Every patch is the product of its own pixels with the kernel."""
  model = TINY.with_options(patch_size=(4, 12), pool='gap')
  params = _params(model)
  _, out = _apply(model)({'params': params}, IMAGES)
  assert out['patch_embedding'].shape == (3, 4, 2, 32)
  pixels = IMAGES[1, 8:12, 12:24].ravel()
  kernel, bias = params['embedding']['kernel'], params['embedding']['bias']
  _close(out['patch_embedding'][1, 2, 1], pixels @ kernel.reshape(-1, 32) + bias)


@pytest.mark.parametrize('shape, message', [
    ((1, 20, 24, 3), r'20 x 24 .*patch size 8 x 8.*16 x 24'),
    ((1, 16, 24, 1), r'\(1, 16, 24, 1\).*expected \(batch, height, width, 3\)'),
    ((16, 24, 3), r'\(16, 24, 3\).*Add the batch dim')])
def test_wrong_images(shape, message):
  with pytest.raises(ValueError, match=message):
    TINY.apply({'params': _params(TINY)}, _images(*shape))


def test_positions_of_another_size():
  message = r'\(1, 7, 32\).*2 x 2 patches need \(1, 5, 32\)'
  with pytest.raises(ValueError, match=message):
    TINY.apply({'params': _params(TINY)}, _images(1, 16, 16, 3))


# --- numerics -------------------------------------------------------------------------


def test_projection_forms_agree():
  model = TINY.with_options(pool='map')
  params = _params(model)
  results = [
      _apply(model.with_options(projection=form))({'params': params}, IMAGES)[0]
      for form in ('2d', '3d')]
  _close(results[0], results[1], atol=1e-5)


def test_projection_forms_drop_the_same_units():
  model = TINY.with_options(dropout=0.3, attention_dropout=0.3)
  params, key = _params(model), {'dropout': jax.random.key(3)}
  results = [
      _apply(model.with_options(projection=form), train=True)(
          {'params': params}, IMAGES, rngs=key)[0] for form in ('2d', '3d')]
  _close(results[0], results[1], atol=1e-5)


def test_attention_weights():
  """Softmax of the scaled products, re-derived in numpy; captured on request."""
  model = TINY.with_options(pool='map')
  params = _params(model)
  apply = _apply(model, attention_weights=True)
  logits, out = apply({'params': params}, IMAGES)
  np.testing.assert_array_equal(logits, _apply(model)({'params': params}, IMAGES)[0])
  assert out['attention_01'].shape == (3, 2, 6, 6)
  assert out['attention_pool'].shape == (3, 2, 1, 6)
  for name in ('attention_00', 'attention_01', 'attention_pool'):
    np.testing.assert_allclose(out[name].sum(-1), 1, atol=1e-6)

  encoder = params['Transformer']
  block = encoder['encoderblock_0']
  x = np.asarray(out['patch_embedding'], np.float64).reshape(3, 6, 32)
  x = x + encoder['posembed_input']['pos_embedding']
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  x = x * block['LayerNorm_0']['scale'] + block['LayerNorm_0']['bias']
  attention = block['MultiHeadDotProductAttention_0']
  q, k = (np.einsum('bld,dnk->bnlk', x, attention[name]['kernel'])
          + attention[name]['bias'][:, None] for name in ('query', 'key'))
  exps = np.exp(q @ k.swapaxes(-1, -2) / 4)
  _close(out['attention_00'], exps / exps.sum(-1, keepdims=True))


def test_softmax_dtype():
  """Weights of bfloat16 sum to one within its rounding; float32 is as always."""
  def weights(**options):
    model = TINY.with_options(**options)
    apply = _apply(model, attention_weights=True)
    return apply({'params': _params(TINY)}, IMAGES)[1]['attention_00']

  exact, same = weights(), weights(softmax_dtype='compute')
  np.testing.assert_array_equal(exact, same)
  rounded = weights(softmax_dtype='compute', dtype='bfloat16')
  assert weights(dtype='bfloat16').dtype == jnp.float32
  assert rounded.dtype == jnp.bfloat16
  rounded = np.asarray(rounded, np.float32)
  tokens = rounded.shape[-1]
  assert np.abs(rounded.sum(-1) - 1).max() < 2 * tokens * 2 ** -9
  _close(rounded, exact, atol=0.02)


def test_bfloat16_computes_with_float32_at_both_ends():
  model = TINY.with_options(dtype='bfloat16', representation_size=16)
  params = _params(model)
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype('float32')}
  logits, out = _apply(model, attention_weights=True)({'params': params}, IMAGES)
  assert logits.dtype == out['attention_00'].dtype == jnp.float32
  assert out['block_01'].dtype == out['pre_logits'].dtype == jnp.bfloat16
  exact, _ = _apply(model.with_options(dtype='float32'))({'params': params}, IMAGES)
  assert 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


# --- dropout --------------------------------------------------------------------------


@pytest.mark.parametrize(
    'rate', ['dropout', 'attention_dropout', 'stochastic_depth'])
def test_dropout_depends_on_key_and_train_alone(rate):
  model = TINY.with_options(**{rate: 0.5})
  variables = {'params': _params(model)}
  train = _apply(model, train=True)
  one, again, other = (
      train(variables, IMAGES, rngs={'dropout': jax.random.key(i)})[0]
      for i in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 1e-3
  still, _ = _apply(model)(variables, IMAGES)  # no key needed
  np.testing.assert_array_equal(still, _apply(TINY)(variables, IMAGES)[0])


def test_no_rates_no_key():
  variables = {'params': _params(TINY)}
  np.testing.assert_array_equal(
      _apply(TINY, train=True)(variables, IMAGES)[0],
      _apply(TINY)(variables, IMAGES)[0])


def test_stochastic_depth_grows_over_depth_and_acts_per_example():
  model = TINY.with_options(stochastic_depth=0.5, depth=3)
  variables = {'params': _params(model)}
  images = _images(64, 16, 24, 3)
  _, out = _apply(model, train=True)(variables, images, rngs={'dropout': KEY})
  _, still = _apply(model)(variables, images)
  # Rates 0, 1/4, 1/2.
  _close(out['block_00'], still['block_00'], atol=1e-5)
  unchanged = [
      np.all(out[f'block_0{i}'] == out[f'block_0{i - 1}'], axis=(1, 2)).mean()
      for i in (1, 2)]
  # Both branches dropped: 1/16 and 1/4 of the examples, within 4 deviations.
  assert unchanged[0] < 0.19 and 0.04 < unchanged[1] < 0.47


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_dropping_keeps_the_mean(dtype):
  x = jnp.full((20_000, 1, 2), 3, dtype)
  rate = 0.1
  branches = blocks.stochastic_depth(x, jnp.float32(rate), KEY)
  elements = blocks.dropout(x, rate, KEY)
  for dropped, axis in ((branches, (1, 2)), (elements, ())):
    assert dropped.dtype == dtype
    values = np.unique(np.asarray(dropped, np.float32))
    _close(values, [0, 3 / 0.9], rtol=2e-3)
    # Four standard deviations of the mean of 20,000 draws: 0.028.
    assert np.asarray(dropped, np.float32).mean() == pytest.approx(3, abs=0.03)
    kept = np.asarray(dropped != 0).reshape(20_000, 2)
    assert np.all(kept[:, 0] == kept[:, 1]) == (axis == (1, 2))
