"""MixUp and CutMix: one weight for images and targets, the right partner and law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import config
from vit_jax.config.sections import Config, MixupSection
from vit_jax.objectives import losses
from vit_jax.preprocessing.device.mixing import box, mix, mixup
from vit_jax.runtime import errors

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


CUTMIX = MixupSection(cutmix_alpha=1.0)
BOTH = MixupSection(alpha=0.4, cutmix_alpha=1.0, cutmix_probability=0.3)
MIX = jax.jit(mix, static_argnames='section')
# Image b is the constant b, of 20x30 pixels; targets are sets of classes.
LARGE = jnp.broadcast_to(jnp.arange(4.0)[:, None, None, None], (4, 20, 30, 3))
SETS = jnp.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [.25, .25, .25, .25]])


@pytest.mark.parametrize('seed', range(6))
def test_cutmix(seed):
  images, targets = MIX(jax.random.key(seed), LARGE, SETS, section=CUTMIX)
  pasted = np.asarray(images[1, :, :, 0]) == 0.0
  rows, columns = pasted.any(1), pasted.any(0)
  assert (pasted == rows[:, None] & columns[None, :]).all()
  for line in (rows, columns):  # In one piece.
    assert (np.diff(np.flatnonzero(line)) == 1).all()
  own = 1 - pasted.mean()
  for b in range(4):
    expected = np.where(pasted[..., None], (b - 1) % 4, b)
    np.testing.assert_array_equal(images[b], np.broadcast_to(expected, (20, 30, 3)))
    np.testing.assert_allclose(
        targets[b], own * SETS[b] + (1 - own) * SETS[(b - 1) % 4], atol=1e-6)


def test_law_of_the_box():
  """Against the rule of the paper's appendix, one draw at a time."""
  n, (h, w) = 3000, (20, 30)
  draws = jax.random.uniform(jax.random.key(0), (n, 3))
  boxes = jax.jit(jax.vmap(lambda d: box((h, w), d[0], (d[1], d[2]))))(draws)
  rng = np.random.default_rng(0)
  kept = []
  for _ in range(n):
    side = np.sqrt(1 - rng.beta(1, 1))
    height, width = int(h * side), int(w * side)
    y, x = rng.integers(h), rng.integers(w)
    top, bottom = np.clip([y - height // 2, y + height // 2], 0, h)
    left, right = np.clip([x - width // 2, x + width // 2], 0, w)
    kept.append(1 - (bottom - top) * (right - left) / (h * w))
  ours, theirs = np.sort(1 - boxes.mean((1, 2))), np.sort(kept)
  at = np.concatenate([ours, theirs])
  gap = abs(np.searchsorted(ours, at, side='right')
            - np.searchsorted(theirs, at, side='right')).max() / n
  assert gap < 0.05  # Kolmogorov and Smirnov's: 0.1 % by chance.
  # Every pixel is the middle of a box as often as any other.
  middles = np.asarray(jax.vmap(lambda d: box((h, w), 0.03, (d[1], d[2])))(draws))
  assert middles.any((1, 2)).all()


def test_both_take_turns():
  keys = jax.random.split(jax.random.key(0), 1000)
  images, targets = jax.jit(jax.vmap(
      lambda key: mix(key, LARGE[:2], SETS[:2], BOTH)))(keys)
  own = np.asarray(images[:, 1, :, :, 0])  # 1 where nothing came from image 0.
  cut = np.isin(own, [0, 1]).all((1, 2))
  assert 0.25 < cut.mean() < 0.35
  # MixUp's weight is one number, at least a half; either way targets follow images.
  assert np.ptp(own[~cut], axis=(1, 2)).max() == 0 and own[~cut].min() >= 0.5
  np.testing.assert_allclose(targets[:, 1, 0], 1 - own.mean((1, 2)), atol=1e-5)
  # E max(w, 1-w) for Beta(0.4, 0.4), by numerical integration.
  w = np.random.default_rng(0).beta(0.4, 0.4, 10**6)
  np.testing.assert_allclose(
      own[~cut].mean(), np.maximum(w, 1 - w).mean(), atol=0.02)


def test_mixtures_do_not_depend_on_sharding():
  images = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype(np.float32)
  targets = np.eye(8, dtype=np.float32)
  mesh = jax.sharding.Mesh(jax.devices(), ('data',))
  by_batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  sharded = jax.device_put((images, targets), by_batch)
  for seed in range(3):
    key = jax.random.key(seed)
    for one, eight in zip(MIX(key, images, targets, section=BOTH),
                          MIX(key, *sharded, section=BOTH), strict=True):
      np.testing.assert_array_equal(one, eight)


def test_mixup_alone_is_what_it_was():
  key = jax.random.key(3)
  for one, two in zip(mix(key, IMAGES, TARGETS, MixupSection(alpha=0.2)),
                      mixup(key, IMAGES, TARGETS, 0.2), strict=True):
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('key, value', [
    ('cutmix_alpha', -1.0), ('cutmix_probability', 1.5)])
def test_impossible_settings_are_explained(key, value):
  given = config.replace(Config(total_steps=1), f'mixup.{key}', value)
  with pytest.raises(errors.UserError, match=f'config.mixup.{key} is {value}'):
    config.check(given)
