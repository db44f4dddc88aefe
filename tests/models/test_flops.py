"""FLOPs against published figures and against XLA's count of the same program."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax.models import layout, variants


@pytest.mark.parametrize('variant, giga', [
    ('B/16', 17.56), ('B/32', 4.41), ('L/16', 61.55), ('L/32', 15.38)])
def test_published_figures(variant, giga):
  """torchvision's table of ViTs at 224 px, which counts a multiply-add as 1."""
  model = variants.create(variant, 1000)
  assert round(model.flops((224, 224)) / 2e9, 2) == giga


@pytest.mark.parametrize('options', [
    {}, {'pool': 'none', 'registers': 4}, {'pool': 'map', 'representation_size': 96}])
def test_what_xla_counts(options):
  model = variants.create(
      '', 100, patch_size=(8, 16), width=128, depth=2, mlp_dim=512, num_heads=2,
      **options)
  size = (64, 128)
  params = jax.eval_shape(lambda: layout.init(model, jax.random.key(0), size))
  images = jax.ShapeDtypeStruct((3, *size, 3), jnp.float32)
  compiled = jax.jit(lambda p, x: model.apply({'params': p}, x)[0]).lower(
      params, images).compile()
  # XLA adds the elementwise work: 1 to 3 % at this width.
  assert compiled.cost_analysis()['flops'] == pytest.approx(
      3 * model.flops(size), rel=0.04)
