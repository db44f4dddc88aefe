"""Scanned and unrolled models are the same model; so is every remat policy."""

import functools

import golden
import jax
import numpy as np
import parameters
import pytest

from vit_jax.models import layout, variants

MODEL = variants.create(
    '', 4, patch_size=8, width=16, depth=2, mlp_dim=24, num_heads=2,
    dropout=0.1, attention_dropout=0.1, stochastic_depth=0.3)
SIZE = (16, 8)
# Without LLVM's optimizations: compiling is what these tests spend their time on.
_jit = functools.partial(
    jax.jit, compiler_options={'xla_backend_optimization_level': 0})
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, *SIZE, 3)).astype(np.float32)


def _equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _init(model):
  return _jit(functools.partial(layout.init, model, image_size=SIZE))


@functools.cache
def _params():
  params = _init(MODEL)(jax.random.key(0))
  # A zero head would hide everything behind it.
  kernel = np.random.default_rng(1).normal(size=(16, 4)).astype(np.float32)
  return params | {'head': params['head'] | {'kernel': kernel}}


@functools.cache
def _results(scan, remat):
  """Loss, gradients (unrolled) and intermediates of a training step."""
  model = MODEL.with_options(scan=scan, remat=remat)

  @_jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def run(params):
    logits, out = model.apply(
        {'params': params}, IMAGES, train=True, attention_weights=True,
        rngs={'dropout': jax.random.key(3)})
    return (logits ** 2).sum(), out

  params = parameters.stacked(_params()) if scan else _params()
  (loss, out), grads = run(params)
  return loss, layout.unstack_blocks(grads), out


@pytest.mark.slow
@pytest.mark.parametrize('scan, remat', [
    (True, 'none'), (True, 'full'), (True, 'dots'), (True, 'dots_no_batch'),
    (False, 'full'), (False, 'dots')])
def test_same_training_step(scan, remat):
  """Outputs and gradients, with the very same units dropped."""
  expected, actual = _results(False, 'none'), _results(scan, remat)
  assert jax.tree.structure(expected) == jax.tree.structure(actual)
  assert {'block_01', 'attention_01'} <= set(actual[2])
  # Relative to the largest gradient: that of the key biases is zero but for rounding.
  largest = max(np.abs(x).max() for x in jax.tree.leaves(expected[1]))
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest)


def test_same_initial_values_from_the_same_key():
  unrolled = _init(MODEL)(jax.random.key(7))
  scanned = _init(MODEL.with_options(scan=True))(jax.random.key(7))
  assert 'encoderblock_1' in unrolled['Transformer']
  assert set(scanned['Transformer']) == {
      'encoderblock', 'posembed_input', 'encoder_norm'}
  _equal(unrolled, layout.unstack_blocks(scanned))


def test_init_of_an_encoder_of_blocks_alone():
  model = MODEL.with_options(
      position_embedding='sincos2d', pool='gap', pool_norm=True)
  params = jax.eval_shape(lambda: layout.init(model, jax.random.key(0), SIZE))
  assert set(params['Transformer']) == {'encoderblock_0', 'encoderblock_1'}


def test_init_without_arrays():
  shapes = jax.eval_shape(lambda key: layout.init(MODEL, key, SIZE), jax.random.key(0))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(
      lambda x: (x.shape, x.dtype), _params())


def test_stacking_is_the_published_scan_layout():
  case = golden.load_case('bv_map')
  unrolled, scanned = case['params']['params'], case['params_scan']['params']
  _equal(parameters.stacked(unrolled), scanned)
  _equal(layout.unstack_blocks(scanned), unrolled)


def test_ten_blocks_keep_their_order():
  """Names sort as block 0, 1, 10, 2; numbers don't."""
  names = [f'encoderblock_{i}' for i in (3, 10, 0, 2, 1, 9, 8, 7, 6, 5, 4)]
  params = {'Transformer': {n: {'w': np.full(2, int(n[13:]))} for n in names}}
  stacked = parameters.stacked(params)['Transformer']['encoderblock']['w']
  assert stacked[:, 0].tolist() == list(range(11))
  _equal(layout.unstack_blocks(parameters.stacked(params)), params)


def test_unrolled_parameters_stay_as_they_are():
  _equal(layout.unstack_blocks(_params()), _params())
