"""Colour jitter and greyscale against Pillow and colorsys."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from vit_jax.preprocessing.device import colour

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 5, 7, 3), dtype=np.uint8)
jitter = jax.jit(colour.jitter, static_argnames=('strengths', 'probability'))


def draws_for(amounts, order=(0, 1, 2, 3), apply=0.):
  """(JITTER_DRAWS,) draws; `amounts` in [0, 1) between the ends of each range."""
  places = np.empty(4)
  places[list(order)] = [.1, .3, .5, .7]
  return np.array([apply, *amounts, *places], np.float32)


def shifted(image, shift):
  """The definition in HSV, a pixel at a time; values 0 to 255."""
  def pixel(rgb):
    h, s, v = colorsys.rgb_to_hsv(*(rgb / 255.))
    return np.array(colorsys.hsv_to_rgb((h + shift) % 1, s, v)) * 255
  return np.apply_along_axis(pixel, -1, np.asarray(image, np.float64))


def scaled(image, operation, factor):
  """torchvision's definition: blended with what has lost all of the property."""
  grey = image @ np.array([.299, .587, .114])
  base = {BRIGHTNESS: 0., CONTRAST: grey.mean(), SATURATION: grey[..., None]}[operation]
  return np.clip(factor * image + (1 - factor) * base, 0, 255)


@pytest.mark.parametrize('operation, enhance', [
    (BRIGHTNESS, ImageEnhance.Brightness), (CONTRAST, ImageEnhance.Contrast),
    (SATURATION, ImageEnhance.Color)])
def test_factors_equal_pillows(operation, enhance):
  strengths = tuple(.8 if i == operation else 0. for i in range(4))
  for draw, factor in ((0., .2), (.25, .6), (.5, 1.), (.9, 1.64)):
    draws = np.stack([draws_for([draw] * 4)] * 24)
    found = np.asarray(jitter(IMAGES.astype(np.float32), draws, strengths, 1.))
    for image, result in zip(IMAGES, found, strict=True):
      expected = enhance(Image.fromarray(image)).enhance(factor)
      # Pillow rounds the grey and truncates the result.
      bound = 1.01 + .51 * abs(1 - factor)
      assert abs(result - np.asarray(expected)).max() < bound


def test_factors_stop_at_zero():
  draws = np.stack([draws_for([0.] * 4)] * 24)
  found = jitter(IMAGES.astype(np.float32), draws, (1.5, 0., 0., 0.), 1.)
  assert not np.asarray(found).any()


@pytest.mark.parametrize('shift', [-.5, -.13, 0., 1 / 3, .47])
def test_hue_equals_colorsys(shift):
  images = IMAGES.copy()
  images[0, 0] = np.array(  # Greys, black, white, pure colours, two equal maxima.
      [[0] * 3, [255] * 3, [99] * 3, [255, 0, 0], [0, 0, 9], [9, 9, 0], [0, 9, 9]])
  found = colour.shift_hue(jnp.float32(images), jnp.full(24, shift))
  np.testing.assert_allclose(found, shifted(images, shift), atol=2e-3)


def test_every_order():
  """Image i has the i-th order; the operations are clipped in between, so it counts."""
  strengths, amounts = (.8, .9, .7, .3), np.array([.95, .9, .85, .2])
  orders = list(itertools.permutations(range(4)))
  draws = np.stack([draws_for(amounts, order) for order in orders])
  found = np.asarray(jitter(IMAGES.astype(np.float32), draws, strengths, 1.))
  factors = 1 + np.array(strengths[:3]) * (2 * amounts[:3] - 1)
  different = 0
  for image, order, result in zip(IMAGES, orders, found, strict=True):
    expected = image.astype(np.float64)
    for operation in order:
      expected = (shifted(expected, .3 * (2 * .2 - 1)) if operation == HUE
                  else scaled(expected, operation, factors[operation]))
    np.testing.assert_allclose(result, expected, atol=2e-2)
    in_place = jitter(image[None].astype(np.float32), draws[:1], strengths, 1.)
    different += abs(np.asarray(in_place) - result).max() > 1
  assert different > 20


def test_probabilities():
  images = np.tile(IMAGES[:1], (600, 1, 1, 1)).astype(np.float32)
  draws = np.asarray(jax.random.uniform(jax.random.key(0), (600, colour.JITTER_DRAWS)))
  changed = (np.asarray(jitter(images, draws, (.4, .4, .4, .1), .8)) != images)
  assert 0.75 < changed.any((1, 2, 3)).mean() < 0.85
  grey = np.asarray(colour.random_greyscale(images, draws[:, 0], .2))
  changed = (grey != images).any((1, 2, 3))
  assert 0.15 < changed.mean() < 0.25
  np.testing.assert_array_equal(grey[~changed], images[~changed])
  expected = np.asarray(Image.fromarray(IMAGES[0]).convert('L').convert('RGB'))
  assert abs(grey[changed] - expected).max() <= 0.51
