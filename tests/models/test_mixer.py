"""MLP-Mixer against the reference implementation and the published sizes."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import parameters
import pytest

from vit_jax.config.sections import ModelSection
from vit_jax.models import layout, variants
from vit_jax.runtime.errors import UserError

TINY = variants.create(
    'Mixer-S/8', 10, width=24, depth=2, token_mlp_dim=20, mlp_dim=48)


def _shapes(model, size):
  return jax.eval_shape(lambda: layout.init(model, jax.random.key(0), size))


def test_outputs_names_and_shapes():
  case = golden.load_case('vitjax_mixer')
  logits, out = jax.jit(TINY.apply)({'params': case['params']}, case['io']['image'])
  np.testing.assert_allclose(logits, case['io']['logits'], atol=5e-5, rtol=1e-4)
  assert sorted(out) == ['block_00', 'block_01', 'encoder_norm', 'logits',
                         'patch_embedding', 'pre_logits']
  actual = golden.flatten(_shapes(TINY, case['meta']['image_hw']))
  assert {k: v.shape for k, v in actual.items()} == {
      k: v.shape for k, v in golden.flatten(case['params']).items()}


@pytest.mark.parametrize('variant, millions', [
    ('Mixer-B/16', 59.9), ('Mixer-L/16', 208.2)])
def test_sizes_as_printed(variant, millions):
  model = variants.create(variant, 1000)
  assert round(parameters.count(model) / 1e6, 1) == millions


def test_flops_are_what_xla_counts():
  model = TINY.with_options(
      width=128, mlp_dim=512, token_mlp_dim=64, patch_size=(8, 16))
  size = (128, 256)
  images = jax.ShapeDtypeStruct((3, *size, 3), jnp.float32)
  compiled = jax.jit(lambda p, x: model.apply({'params': p}, x)[0]).lower(
      _shapes(model, size), images).compile()
  # XLA adds the elementwise work: norms and GELU.
  assert compiled.cost_analysis()['flops'] == pytest.approx(
      3 * model.flops(size), rel=0.06)


def test_initial_values():
  """Of the layers' defaults; the head starts at zero."""
  model = TINY.with_options(width=128, head_bias_init=-2.0)
  params = jax.jit(lambda: layout.init(model, jax.random.key(0), (64, 64)))()
  block = params['MixerBlock_1']
  assert np.std(block['token_mixing']['Dense_0']['kernel']) == pytest.approx(
      64 ** -0.5, rel=0.1)
  assert not np.any(block['channel_mixing']['Dense_1']['bias'])
  assert not np.any(params['head']['kernel']) and np.all(params['head']['bias'] == -2)


def test_from_a_section():
  section = ModelSection(
      variant='Mixer-B/16', depth=2, token_mlp_dim=32, gelu='exact')
  model = variants.from_section(section, 5, 'cpu')
  assert model == variants.create(
      'Mixer-B/16', 5, depth=2, token_mlp_dim=32, gelu='exact')
  options = model.options
  assert (options.width, options.mlp_dim, options.patch_size) == (768, 3072, (16, 16))


@pytest.mark.parametrize('section, words', [
    (dict(registers=4), ["Mixer has no option 'registers'; leave it out"]),
    (dict(token_mlp_dim=-1), ['token_mlp_dim is -1', 'positive']),
    (dict(variant='mixer_b/16'), ["did you mean 'Mixer-B/16'?"]),
    (dict(variant='Mixer-Q/16'), ['Mixer-<size>/<patch>', 'S, B, L, H'])])
def test_impossible_options(section, words):
  section = {'variant': 'Mixer-B/16'} | section
  with pytest.raises(UserError) as error:
    variants.from_section(ModelSection(**section), 10, 'cpu')
  for word in words:
    assert word in str(error.value)
