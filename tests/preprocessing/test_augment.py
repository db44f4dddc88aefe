"""The accelerator's preprocessing against tf.image and against the host's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.config.sections import PreprocessSection
from vit_jax.data import tensorflow
from vit_jax.preprocessing.device import augment, crop, resize
from vit_jax.preprocessing.host import ops as host_ops

RANGE = (0., 255.)


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).integers(0, 256, (6, 21, 30, 3), dtype=np.uint8)


def train(images, section, size, seed=0, value_range=RANGE):
  function = jax.jit(lambda x, key: augment.train_images(
      x, key, section, size, value_range))
  return np.asarray(function(images, jax.random.key(seed)))


@pytest.mark.parametrize('method, antialias, error', [
    ('bilinear', False, 1e-3), ('bilinear', True, 1e-3), ('bicubic', True, 1e-3),
    # TensorFlow tabulates this kernel in 1024 steps.
    ('bicubic', False, 0.5), ('area', False, 1e-3)])
@pytest.mark.parametrize('size', [(64, 47), (10, 13), (21, 60), (21, 30)])
def test_resize_equals_tf_image(images, method, antialias, error, size):
  tf = tensorflow.load()
  expected = tf.image.resize(images, size, method=method, antialias=antialias).numpy()
  found = resize.resize(jnp.float32(images), size, method, antialias)
  assert abs(found - expected).max() < error


def test_resize_equals_jax_image(images):
  expected = jax.image.resize(jnp.float32(images), (6, 64, 47, 3), 'bilinear')
  found = resize.resize(jnp.float32(images), (64, 47), 'bilinear', True)
  np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize('section', [
    PreprocessSection(),
    PreprocessSection(resize_small=25, crop='central', method='bicubic'),
    PreprocessSection(resize=(40, 50), resize_small=28, crop='central', method='area'),
    PreprocessSection(crop='central')])
def test_evaluation_equals_the_host(images, section):
  tf = tensorflow.load()
  size = (20, 18)
  host = host_ops.make_prepare(tf, section, size)
  encoded = [tf.io.encode_png(image) for image in images]
  expected = [host(data, tf.zeros(2, tf.int64)).numpy() for data in encoded]
  found = np.asarray(augment.eval_images(images, section, size, RANGE))
  # The host rounds, and TensorFlow tabulates the cubic kernel.
  bound = 0.75 if section.method == 'bicubic' else 0.51
  assert abs(found - np.stack(expected)).max() <= bound


def test_inception_crop_equals_a_cut_and_a_resize(images):
  tf = tensorflow.load()
  section, size = PreprocessSection(crop='inception'), (24, 16)
  draws = jax.random.uniform(jax.random.key(4), (len(images), 23))[:, 1:]
  found = train(images, section, size, seed=4)
  for row, image in enumerate(images):
    top, left, h, w = map(
        int, crop.inception_window(draws[row], (21, 30), section))
    window = image[top:top + h, left:left + w]
    assert window.shape == (h, w, 3) and h * w >= 0.05 * 21 * 30
    np.testing.assert_allclose(found[row], tf.image.resize(window, size), atol=2e-3)


def test_inception_windows_are_distributed_as_in_tensorflow():
  tf = tensorflow.load()
  shape, n = (300, 400), 3000
  section = PreprocessSection(crop='inception')
  ours = jax.vmap(lambda d: jnp.stack(crop.inception_window(d, shape, section)))(
      jax.random.uniform(jax.random.key(0), (n, 22)))

  def draw(i):
    return tf.concat(tf.image.stateless_sample_distorted_bounding_box(
        [*shape, 3], tf.zeros((1, 0, 4)), tf.stack([i, 7]), min_object_covered=0.,
        area_range=section.crop_area, aspect_ratio_range=section.crop_ratio,
        use_image_if_no_bounding_boxes=True)[:2], 0)
  theirs = tf.data.Dataset.range(n).map(lambda i: draw(tf.cast(i, tf.int32)))
  theirs = np.array(list(theirs.as_numpy_iterator()))[:, [0, 1, 3, 4]]
  ours = np.asarray(ours)
  for statistic in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2],
                    lambda b: b[:, 0], lambda b: b[:, 1]):
    assert distance(statistic(ours), statistic(theirs)) < 0.045  # 0.1 % by chance.


def distance(a, b):
  """Kolmogorov and Smirnov's: the largest gap of two distribution functions."""
  at = np.concatenate([a, b])
  def shares(x):
    return np.searchsorted(np.sort(x), at, side='right') / len(x)
  return abs(shares(a) - shares(b)).max()


def test_random_crop_with_padding(images):
  section = PreprocessSection(crop='random', pad=2)
  padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
  offsets = set()
  for seed in range(12):
    for i, found in enumerate(train(images, section, (21, 30), seed)):
      where = [(y, x) for y in range(5) for x in range(5)
               if (found == padded[i, y:y + 21, x:x + 30]).all()]
      assert len(where) == 1
      offsets.update(where)
  assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(5))


def test_flips_half_of_the_images():
  images = np.zeros((400, 2, 2, 3), np.uint8)
  images[:, :, 0] = 255
  found = train(images, PreprocessSection(flip=True), (2, 2))
  flipped = found[:, 0, 0, 0] == 0
  assert 150 < flipped.sum() < 250
  np.testing.assert_array_equal(found[flipped], images[flipped][:, :, ::-1])
  np.testing.assert_array_equal(found[~flipped], images[~flipped])


def test_value_range():
  images = np.array([0, 255, 51], np.uint8).reshape(1, 1, 3, 1).repeat(3, -1)
  found = train(images, PreprocessSection(), (1, 3), value_range=(-1., 1.))
  np.testing.assert_allclose(found[0, 0, :, 0], [-1, 1, -0.6], atol=1e-6)
  assert found.dtype == np.float32


@pytest.mark.parametrize('section', [
    PreprocessSection(crop='inception', flip=True),
    PreprocessSection(crop='random', jitter=(.8, .8, .8, .2), jitter_probability=.8,
                      greyscale=.2, erase=.5, erase_fill='noise')])
def test_draws_do_not_depend_on_sharding(section):
  images = np.random.default_rng(1).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
  mesh = jax.sharding.Mesh(jax.devices(), ('data',))
  sharded = jax.device_put(
      images, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data')))
  np.testing.assert_array_equal(
      train(images, section, (12, 12)), train(sharded, section, (12, 12)))


@pytest.mark.parametrize('section', [
    PreprocessSection(flip=True), PreprocessSection(greyscale=.1)])
def test_evaluation_refuses_randomness(images, section):
  with pytest.raises(ValueError, match='config.data.eval'):
    augment.eval_images(images, section, (9, 9), RANGE)


def test_order_of_the_operations():
  """Greyscale comes before the pixels get their range, erasing after it."""
  images = np.random.default_rng(1).integers(100, 256, (32, 12, 12, 3), dtype=np.uint8)
  section = PreprocessSection(jitter=(0., 0., 2., .5), greyscale=1., erase=1.)
  found = train(images, section, (12, 12), value_range=(0., 1.))
  assert (found == found[..., :1]).all()
  erased = (found == 0).any((1, 2, 3))
  assert erased.mean() > 0.9 and found.max() <= 1 and 0 < found[found > 0].min()


def test_bicubic_does_not_overshoot_into_the_jitter(images):
  section = PreprocessSection(method='bicubic', jitter=(0., 0., 0., 0.))
  found = train(images, section, (50, 40))
  expected = train(images, PreprocessSection(method='bicubic'), (50, 40))
  np.testing.assert_allclose(found, expected, atol=1e-3)
