"""MixUp: the same weight for images and targets, the right partner and law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import errors, losses
from vit_jax.mixup import mixup

# Image b is the constant b: its mixed value gives the weight away.
IMAGES = jnp.broadcast_to(jnp.arange(4.0)[:, None, None, None], (4, 2, 2, 3))
TARGETS = losses.targets(jnp.arange(4), 5)
MIXUP = jax.jit(mixup, static_argnames='alpha')


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('alpha', [0.2, 1.0])
def test_mixture(seed, alpha):
  images, targets = MIXUP(jax.random.key(seed), IMAGES, TARGETS, alpha=alpha)
  own = float(targets[0, 0])
  assert 0.5 <= own <= 1.0
  expected_targets = np.zeros((4, 5))
  expected_images = np.zeros((4, 2, 2, 3))
  for b in range(4):
    partner = (b - 1) % 4
    expected_targets[b, b] += own
    expected_targets[b, partner] += 1 - own
    expected_images[b] = own * b + (1 - own) * partner
  np.testing.assert_allclose(targets, expected_targets, atol=1e-6)
  np.testing.assert_allclose(images, expected_images, atol=1e-6)


@pytest.mark.parametrize('alpha,mean', [(1.0, 0.75), (2.0, 0.6875)])
def test_law_of_the_weight(alpha, mean):
  """E max(w, 1-w): 3/4 for the uniform law, 11/16 for the density 6w(1-w)."""
  keys = jax.random.split(jax.random.key(0), 4000)
  weights = jax.jit(jax.vmap(
    lambda key: mixup(key, jnp.ones((2, 1)), jnp.eye(2), alpha)[1][0, 0]))(keys)
  np.testing.assert_allclose(weights.mean(), mean, atol=0.01)
  assert weights.min() >= 0.5 and weights.max() <= 1.0


def test_zero_alpha_is_the_identity():
  images, targets = mixup(jax.random.key(0), IMAGES, TARGETS, 0.0)
  assert images is IMAGES and targets is TARGETS


def test_dtypes_are_kept():
  images, targets = mixup(
    jax.random.key(0), IMAGES.astype(jnp.bfloat16), TARGETS, 1.0)
  assert images.dtype == jnp.bfloat16 and targets.dtype == jnp.float32


def test_bad_arguments():
  with pytest.raises(errors.UserError, match='-0.1'):
    mixup(jax.random.key(0), IMAGES, TARGETS, -0.1)
  with pytest.raises(ValueError, match='uint8'):
    mixup(jax.random.key(0), IMAGES.astype(jnp.uint8), TARGETS, 0.1)
