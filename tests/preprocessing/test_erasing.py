"""Random erasing: where, how much, and what comes in its place."""

import math

import jax
import numpy as np
import pytest

from vit_jax.config.sections import PreprocessSection
from vit_jax.preprocessing.device import erasing

SHAPE = (60, 90)


def draws(n, seed=0):
  return jax.random.uniform(jax.random.key(seed), (n, erasing.DRAWS))


def erase(section, n, value_range=(-1., 1.), seed=0):
  """What becomes of images that are 7, which no fill is."""
  function = jax.jit(lambda images, draws, key: erasing.erase(
      images, draws, key, section, value_range))
  images = np.full((n, *SHAPE, 3), 7., np.float32)
  return np.asarray(function(images, draws(n, seed), jax.random.key(1)))


def reference(rng, section):
  """torchvision's rule: ten proposals of area and log ratio, then the place."""
  h, w = SHAPE
  for _ in range(10):
    area = h * w * rng.uniform(*section.erase_area)
    ratio = math.exp(rng.uniform(*np.log(section.erase_ratio)))
    height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if height < h and width < w:
      return rng.integers(h - height + 1), rng.integers(w - width + 1), height, width
  return 0, 0, 0, 0


@pytest.mark.parametrize('section', [
    PreprocessSection(), PreprocessSection(erase_area=(.3, .9), erase_ratio=(.2, 3.))])
def test_law_of_the_rectangle(section):
  n = 3000
  found = jax.jit(jax.vmap(lambda d: erasing.rectangle(d, SHAPE, section)))(
      draws(n)[:, 1:])
  ours = np.stack(found, 1)
  rng = np.random.default_rng(1)
  theirs = np.array([reference(rng, section) for _ in range(n)])
  for statistic in (
      lambda r: r[:, 0], lambda r: r[:, 1], lambda r: r[:, 2], lambda r: r[:, 3],
      lambda r: r[:, 2] * r[:, 3], lambda r: r[:, 2] / (r[:, 3] + 1e-9)):
    a, b = statistic(ours), statistic(theirs)
    at = np.concatenate([a, b])
    gap = abs(np.searchsorted(np.sort(a), at, side='right')
              - np.searchsorted(np.sort(b), at, side='right')).max() / n
    assert gap < 0.05  # Kolmogorov and Smirnov's: 0.1 % by chance.
  assert (ours[:, 0] + ours[:, 2] <= 60).all() and (ours[:, 1] + ours[:, 3] <= 90).all()


def test_a_filled_rectangle():
  section = PreprocessSection(erase=1.)
  found = erase(section, 40)
  boxes = np.stack(jax.vmap(lambda d: erasing.rectangle(d, SHAPE, section))(
      draws(40)[:, 1:]), 1).astype(int)
  for image, (top, left, height, width) in zip(found, boxes, strict=True):
    expected = np.full((*SHAPE, 3), 7.)
    assert height > 0 < width
    expected[top:top + height, left:left + width] = 0
    np.testing.assert_array_equal(image, expected)


def test_noise_is_uniform_in_the_value_range():
  found = erase(PreprocessSection(erase=1., erase_fill='noise'), 40, (-1., 3.))
  noise = found[found != 7.]
  assert -1 <= noise.min() < -.99 and 2.99 < noise.max() <= 3
  assert abs(noise.mean() - 1) < .02 and abs(noise.var() - 16 / 12) < .03
  assert len(np.unique(noise)) > 0.99 * noise.size


def test_probability():
  touched = (erase(PreprocessSection(erase=.25), 600) != 7.).any((1, 2, 3))
  assert 0.2 < touched.mean() < 0.3
