"""RandAugment: its operations against Pillow, how they are drawn, and its batches."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import open_input, tensorflow
from vit_jax.preprocessing.host import colour, randaugment
from vit_jax.preprocessing.host import ops as host_ops
from vit_jax.runtime.errors import UserError

# What the original's rules come to at these magnitudes, worked out by hand.
BITS = {0: 1, 2.5: 1, 5: 2, 10: 4, 15: 6, 20: 8}
THRESHOLD = {0: 0, 2.5: 64, 5: 128, 10: 0, 15: 128, 20: 0}
ADDITION = {0: 0, 2.5: 27, 5: 55, 10: 110, 15: 165, 20: 220}
FACTOR = {0: .1, 2.5: .55, 5: 1., 10: 1.9, 15: 2.8, 20: 3.7}
DEGREES = {0: 0, 2.5: 7.5, 5: 15, 10: 30, 15: 45, 20: 60}
SLOPE = {0: 0., 2.5: .075, 5: .15, 10: .3, 15: .45, 20: .6}
SHIFT = {0: 0, 2.5: 25, 5: 50, 10: 100, 15: 150, 20: 200}
MAGNITUDES = tuple(BITS)
NAMES = ('AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize',
         'Color', 'Contrast', 'Brightness', 'Sharpness', 'ShearX', 'ShearY',
         'TranslateX', 'TranslateY', 'Cutout', 'SolarizeAdd')


@pytest.fixture(scope='module')
def tf():
  return tensorflow.load()


def pictures():
  """Noise, a gradient with few levels, a dim one, one with an empty channel, grey."""
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
  gradient = np.arange(33)[:, None, None] * 3 + np.arange(47)[None, :, None] * 2
  gradient = np.repeat(gradient, 3, 2).astype(np.uint8)
  dim = rng.integers(90, 140, (33, 47, 3)).astype(np.uint8)
  empty = noise.copy()
  empty[..., 1] = 77
  grey = np.full_like(noise, 200)
  return noise, gradient, dim, empty, grey


def apply(tf, name, image, magnitude, sign=1., grey=-1):
  operation = randaugment.operations(tf, magnitude, image.shape[:2], grey)[name]
  return operation(tf.constant(image), tf.constant(sign), tf.constant([.5, .5])).numpy()


def pillow(name, image, magnitude):
  if name == 'SolarizeAdd':
    raised = [min(v + ADDITION[magnitude], 255) if v < 128 else v for v in range(256)]
    return image.point(raised * 3)
  factor = FACTOR[magnitude]
  return {
      'AutoContrast': lambda: ImageOps.autocontrast(image),
      'Equalize': lambda: ImageOps.equalize(image),
      'Invert': lambda: ImageOps.invert(image),
      'Posterize': lambda: ImageOps.posterize(image, BITS[magnitude]),
      'Solarize': lambda: ImageOps.solarize(image, THRESHOLD[magnitude]),
      'Color': lambda: ImageEnhance.Color(image).enhance(factor),
      'Contrast': lambda: ImageEnhance.Contrast(image).enhance(factor),
      'Brightness': lambda: ImageEnhance.Brightness(image).enhance(factor),
      'Sharpness': lambda: ImageEnhance.Sharpness(image).enhance(factor),
  }[name]()


@pytest.mark.parametrize('name, levels', [
    ('AutoContrast', 1), ('Equalize', 0), ('Invert', 0), ('Posterize', 0),
    ('Solarize', 0), ('SolarizeAdd', 0), ('Brightness', 0), ('Color', None),
    ('Contrast', 1), ('Sharpness', None)])
def test_values_equal_pillows(tf, name, levels):
  """`levels` is the tolerance; None: what one level in the degenerate image makes."""
  for magnitude in MAGNITUDES:
    bound = levels
    if levels is None:
      bound = np.ceil(abs(1 - FACTOR[magnitude]))
    for image in pictures():
      found = apply(tf, name, image, magnitude)
      expected = np.asarray(pillow(name, Image.fromarray(image), magnitude))
      assert found.dtype == np.uint8
      error = abs(found.astype(int) - expected)
      assert error.max() <= bound, (magnitude, error.max())


def test_contrast_away_from_a_fixed_grey(tf):
  # tensorflow/tpu issue 825 and google-research/big_vision issue 109: at 224x224 the
  # original turns (192, 64, 64) and its complement into (188, 0, 0) and (0, 188, 188).
  tiles = np.array([[[192, 64, 64], [64, 192, 192]]], np.uint8)
  found = apply(tf, 'Contrast', tiles, 10, grey=196)
  assert found.tolist() == [[[188, 0, 0], [0, 188, 188]]]


@pytest.mark.parametrize('sign', [1., -1.])
@pytest.mark.parametrize('magnitude', MAGNITUDES)
def test_geometry_equals_pillows(tf, magnitude, sign):
  image = np.asarray(Image.fromarray(pictures()[0]).resize((224, 224)))
  shown = Image.fromarray(image)
  grey = (128,) * 3

  def affine(a, b, c, d, e, f):
    # Pillow counts from the corner of a pixel, the original from its middle.
    data = (a, b, c + .5 - (a + b) / 2, d, e, f + .5 - (d + e) / 2)
    return shown.transform((224, 224), Image.Transform.AFFINE, data,
                           Image.Resampling.NEAREST, fillcolor=grey)
  slope, shift = sign * SLOPE[magnitude], sign * SHIFT[magnitude]
  expected = {
      'Rotate': shown.rotate(sign * DEGREES[magnitude], fillcolor=grey),
      'ShearX': affine(1, slope, 0, 0, 1, 0), 'ShearY': affine(1, 0, 0, slope, 1, 0),
      'TranslateX': affine(1, 0, shift, 0, 1, 0),
      'TranslateY': affine(1, 0, 0, 0, 1, shift)}
  for name, image_there in expected.items():
    found = apply(tf, name, image, magnitude, sign)
    equal = (found == np.asarray(image_there)).all(-1)
    if name.startswith('Shear'):
      # Points half-way between two pixels are rounded to either.
      halves = abs(slope * np.arange(224) % 1 - .5) < 1e-4
      equal |= halves[:, None] if name == 'ShearX' else halves[None, :]
    assert equal.mean() >= (1 if name.startswith('Translate') else 0.998), name


def test_pixels_scale_with_the_image(tf):
  image = pictures()[0]  # 33x47
  shifted = apply(tf, 'TranslateX', image, 10)
  pixels = round(100 / 224 * 47)
  np.testing.assert_array_equal(shifted[:, :-pixels], image[:, pixels:])
  assert (shifted[:, -pixels:] == 128).all()


@pytest.mark.parametrize('place, top, left', [
    ((.5, .5), 72, 72), ((0., .999), -40, 183), ((.25, .75), 16, 128)])
def test_cutout(tf, place, top, left):
  image = np.zeros((224, 224, 3), np.uint8)
  operation = randaugment.operations(tf, 10, (224, 224))['Cutout']
  found = operation(tf.constant(image), tf.constant(1.), tf.constant(place)).numpy()
  for y in range(80):
    for x in range(80):
      if 0 <= top + y < 224 and 0 <= left + x < 224:
        image[top + y, left + x] = 128
  np.testing.assert_array_equal(found, image)


def results(tf, image, section, n):
  """What the positions 0..n-1 of a run with seed 3 make of an image."""
  tensor = tf.constant(image)
  augment = randaugment.make(tf, section, image.shape[:2])
  def one(position):
    return augment(tensor, tf.stack([tf.constant(3, tf.int64), position]))
  return np.stack(list(tf.data.Dataset.range(n).map(one).as_numpy_iterator()))


def outcomes(tf, image, magnitude):
  """{(name, sign): image}, all different, without Cutout."""
  found = {}
  for name in NAMES:
    signs = (1., -1.) if name[:5] in ('Rotat', 'Shear', 'Trans') else (0.,)
    for sign in signs:
      if name != 'Cutout':
        found[name, sign] = apply(tf, name, image, magnitude, sign)
  assert len({x.tobytes() for x in found.values()}) == len(found)
  return found


@pytest.fixture(scope='module')
def small():
  return np.random.default_rng(5).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def which(outcome_of, image, result):
  for key, outcome in outcome_of.items():
    if (outcome == result).all():
      return key
  assert (result[(result != image).any(-1)] == 128).all()
  return 'Cutout', 0.


def test_operations_are_drawn_uniformly(tf, small):
  assert tuple(randaugment.operations(tf, 9, (24, 24))) == NAMES
  outcome_of = outcomes(tf, small, 9)
  section = PreprocessSection(randaugment_layers=1, randaugment_magnitude=9)
  drawn = [which(outcome_of, small, x) for x in results(tf, small, section, 1600)]
  counts = np.array([sum(name == d[0] for d in drawn) for name in NAMES])
  # Pearson's statistic of 16 equal classes is above 37.7 once in a thousand times.
  assert ((counts - 100)**2 / 100).sum() < 37.7
  for name in ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY'):
    left, right = (drawn.count((name, sign)) for sign in (1., -1.))
    assert min(left, right) > 0.3 * (left + right)


def test_layers_and_the_flip_before_them(tf, small):
  once, twice = {}, {}
  for flipped, image in ((False, small), (True, small[:, ::-1])):
    for first, between in outcomes(tf, image, 9).items():
      once[between.tobytes()] = flipped, first
      operations = randaugment.operations(tf, 9, (24, 24))
      for second in ('Equalize', 'Posterize', 'ShearY', 'Color'):
        after = operations[second](tf.constant(between), 1., (0., 0.)).numpy()
        twice[after.tobytes()] = flipped, first, second
  section = PreprocessSection(
      randaugment_layers=1, randaugment_magnitude=9, flip=True)
  found = [once.get(x.tobytes()) for x in results(tf, small, section, 100)]
  flips = [f[0] for f in found if f]  # All but Cutout's.
  assert len(flips) > 80 and 0.3 < np.mean(flips) < 0.7
  section = dataclasses.replace(section, randaugment_layers=2)
  found = [twice.get(x.tobytes()) for x in results(tf, small, section, 200)]
  seconds = [f[2] for f in found if f]
  # 15/16 * (3 + 1/2) / 16 of the pairs are among those.
  assert 20 < len(seconds) < 70
  assert set(seconds) == {'Equalize', 'Posterize', 'ShearY', 'Color'}


RANDAUGMENT = PreprocessSection(crop='inception', flip=True, randaugment_layers=2)


def batches(data, start, count, rows, batch_size=8):
  iterator = open_input(data, 'train', train=True).start().train_batches(
      5, batch_size, rows, start)
  return np.stack([next(iterator)['image'] for _ in range(count)])


def test_batches_depend_on_seed_and_position_alone(imagenet_dir):
  data = DataSection('imagenet2012', imagenet_dir, image_size=(24, 24),
                     train=RANDAUGMENT, decode_threads=1)
  rows = np.arange(8)
  whole = batches(data, 0, 4, rows)
  assert len({image.tobytes() for image in whole.reshape(32, -1)}) == 32
  data = dataclasses.replace(data, decode_threads=5)
  np.testing.assert_array_equal(batches(data, 2, 2, rows), whole[2:])  # Resumed.
  on_two_hosts = [batches(data, 0, 4, part) for part in np.split(rows, 2)]
  np.testing.assert_array_equal(np.concatenate(on_two_hosts, 1), whole)


def test_it_follows_the_same_crop(tf, imagenet_dir):
  plain = DataSection('imagenet2012', imagenet_dir, image_size=(24, 24), cache='never',
                      train=PreprocessSection(crop='inception'))
  section = dataclasses.replace(
      plain.train, randaugment_layers=1, randaugment_magnitude=9)
  augmented = dataclasses.replace(plain, train=section)
  pairs = zip(batches(plain, 0, 1, np.arange(8))[0],
              batches(augmented, 0, 1, np.arange(8))[0], strict=True)
  drawn = {which(outcomes(tf, before, 9), before, after) for before, after in pairs}
  assert len(drawn) > 3  # Each example has its own.


def test_such_splits_are_streamed(cifar_dir):
  data = DataSection('cifar10', cifar_dir, image_size=(20, 20),
                     train=dataclasses.replace(RANDAUGMENT, greyscale=0.2, erase=0.1))
  data_input = open_input(data, 'train', train=True)
  assert data_input.mode == 'streaming' and data_input.stored_shape == (20, 20, 3)
  assert data_input.remaining == PreprocessSection(greyscale=0.2, erase=0.1)
  with pytest.raises(UserError, match="cifar10.*RandAugment.*cache='auto'"):
    open_input(dataclasses.replace(data, cache='always'), 'train', train=True)


def test_blend_keeps_and_replaces(tf):
  """The ends of the interpolation are exactly the two images."""
  image, other = pictures()[0], pictures()[2]
  np.testing.assert_array_equal(colour.blend(tf, other, image, 1.).numpy(), image)
  np.testing.assert_array_equal(colour.blend(tf, other, image, 0.).numpy(), other)


def test_one_example_by_itself(tf):
  """As when a record that cannot be decoded is looked for, and for empty places."""
  prepare = host_ops.make_prepare(tf, RANDAUGMENT, (24, 24))
  assert not prepare(tf.constant(b''), tf.constant([1, 2], tf.int64)).numpy().any()
  png = tf.io.encode_png(pictures()[0])
  seeds = np.stack([np.full(6, 1), np.arange(6)], 1)
  mapped = tf.data.Dataset.from_tensor_slices(seeds).map(
      lambda seed: prepare(png, seed)).as_numpy_iterator()
  for seed, image in zip(seeds, mapped, strict=True):
    np.testing.assert_array_equal(prepare(png, tf.constant(seed)), image)
