"""Pixels of one channel, or of another range than 0..255, cached and streamed."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from image_data import picture, write_tiny

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import open_input, tensorflow
from vit_jax.runtime.errors import DataError


def sprite(split, i):
  del split
  values = {key: 0.5 for key in (
      'value_shape', 'value_scale', 'value_orientation', 'value_x_position',
      'value_y_position')}
  classes = {key: i % 3 for key in (
      'label_shape', 'label_scale', 'label_orientation', 'label_x_position',
      'label_y_position')}
  image = (picture(i, 64, 64)[..., :1] > 127).astype(np.uint8)
  return {'image': image, **classes, **values}


def toy(split, i):
  del split
  image = picture(i, 96, 96)[..., :1]
  return {'image': image, 'image2': 255 - image, 'instance': i % 10,
          'label_category': i % 5, 'label_elevation': i % 9, 'label_azimuth': i % 18,
          'label_lighting': i % 6}


@pytest.fixture(scope='module')
def sprites(tmp_path_factory):
  return DataSection('dsprites', write_tiny(
      'dsprites', tmp_path_factory.mktemp('sprites'), {'train': 9}, sprite),
      label_key='label_scale', image_size=(64, 64), pixel_factor=255)


@pytest.fixture(scope='module')
def toys(tmp_path_factory):
  return DataSection('smallnorb', write_tiny(
      'smallnorb', tmp_path_factory.mktemp('toys'), {'train': 9}, toy),
      label_key='label_azimuth', image_size=(96, 96))


def images(data, cache, **options):
  data = DataSection(**{**vars(data), 'cache': cache, **options})
  data_input = open_input(data, 'train', train=False)
  batches = list(data_input.start().eval_batches(4, np.arange(4)))
  mask = np.concatenate([b['mask'] for b in batches])
  return np.concatenate([b['image'] for b in batches])[mask]


def as_tfds_reads(data):
  builder = tfds.builder(data.name, data_dir=data.dir)
  examples = builder.as_dataset(split='train').as_numpy_iterator()
  return np.stack([e['image'] for e in examples])


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_as_stored(sprites, toys, cache):
  raw = as_tfds_reads(sprites)
  assert set(np.unique(raw)) == {0, 1} and raw.shape == (9, 64, 64, 1)
  np.testing.assert_array_equal(images(sprites, cache), np.repeat(raw * 255, 3, -1))
  raw = as_tfds_reads(toys)
  assert raw.max() > 200 and raw.shape == (9, 96, 96, 1)
  np.testing.assert_array_equal(images(toys, cache), np.repeat(raw, 3, -1))


def test_multiplied_before_resizing(sprites):
  """Interpolated in 0..255 and not in 0..1, where rounding would leave two levels."""
  tf = tensorflow.load()
  small = PreprocessSection(resize=(20, 24))
  raw = np.repeat(as_tfds_reads(sprites) * 255, 3, -1)
  expected = tf.image.resize(raw, (20, 24)).numpy()
  for cache in ('always', 'never'):
    found = images(sprites, cache, eval=small, image_size=(20, 24))
    assert found.shape == expected.shape and len(np.unique(found)) > 9
    assert abs(found - expected).max() <= 0.5


def test_crops(sprites):
  section = PreprocessSection(crop='inception', crop_area=(0.2, 0.5))
  data = DataSection(**{**vars(sprites), 'train': section, 'image_size': (32, 32),
                        'cache': 'never'})
  batch = next(open_input(data, 'train', train=True).start().train_batches(
      0, 4, np.arange(4)))['image']
  assert batch.max() == 255 and (batch[..., 0] == batch[..., 2]).all()


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_a_factor_that_is_too_large(toys, cache):
  with pytest.raises(DataError, match=r'(?s)smallnorb, split train, record \d.*'
                     r'pixel value .*times config.data.pixel_factor=255 is more than'):
    images(toys, cache, pixel_factor=255)
