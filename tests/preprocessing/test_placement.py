"""What the host does, what it leaves to the accelerator, and what cannot be done."""

import dataclasses

import jax
import numpy as np
import pytest

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import ImageReader, open_input
from vit_jax.preprocessing import placement
from vit_jax.preprocessing.device import augment
from vit_jax.runtime.errors import UserError

INCEPTION = PreprocessSection(crop='inception')
# Values that turn each operation on.
ON = dict(resize=(20, 28), resize_small=18, crop='inception', flip=True,
          randaugment_layers=2, jitter=(.4, .4, .4, .1), greyscale=1., erase=1.)


def test_operations_are_settings_in_their_order():
  names = [field.name for field in dataclasses.fields(PreprocessSection)]
  assert list(placement.OPERATIONS) == [n for n in names if n in placement.OPERATIONS]
  assert ON.keys() == placement.OPERATIONS.keys()
  assert not placement.random_settings(PreprocessSection())


@pytest.mark.parametrize('name', [
    name for name, operation in placement.OPERATIONS.items()
    if operation.side != 'host'])
def test_the_accelerator_does_what_is_left_to_it(name):
  images = np.random.default_rng(0).integers(0, 256, (8, 21, 30, 3), dtype=np.uint8)
  def train(**settings):
    return np.asarray(augment.train_images(
        images, jax.random.key(0), PreprocessSection(**settings), (16, 16), (0., 1.)))
  assert abs(train(**{name: ON[name]}) - train()).max() > 0.1


@pytest.mark.parametrize('name', [
    name for name, operation in placement.OPERATIONS.items()
    if operation.side != 'either'])
def test_one_side_alone(name):
  section = PreprocessSection(**{name: ON[name]})
  streamed = placement.place_streamed(section, (16, 16), None)
  on_host = placement.OPERATIONS[name].side == 'host'
  for part, has_it in ((streamed.host, on_host), (streamed.remaining, not on_host)):
    assert getattr(part, name) == (ON[name] if has_it else getattr(
        PreprocessSection(), name))


def test_the_host_leaves_the_fewest_pixels():
  small_raw = placement.place_cached(
      PreprocessSection(crop='random', pad=4, flip=True), (32, 32), (32, 32, 3))
  assert small_raw.host_size == (32, 32) and small_raw.remaining.pad == 4
  resized = PreprocessSection(resize=(48, 48), crop='random', flip=True)
  kept = placement.place_cached(resized, (40, 40), None)
  assert kept.host_size == (48, 48)
  assert kept.remaining == dataclasses.replace(resized, resize=())
  streamed = placement.place_streamed(resized, (40, 40), None)
  assert streamed.host_size == (40, 40)
  assert streamed.remaining == PreprocessSection(flip=True)
  assert placement.place_cached(INCEPTION, (40, 40), None) is None


@pytest.mark.parametrize('section, told', [
    (PreprocessSection(crop='center'), 'central'),
    (PreprocessSection(method='nearest'), 'bilinear'),
    (PreprocessSection(resize=(20, 20), crop='random', pad=1), '20x20'),
])
def test_impossible_preprocessing_is_explained(section, told):
  with pytest.raises(UserError, match=told):
    placement.place_streamed(section, (24, 24), None)


def test_the_rest_is_left_to_the_accelerator():
  section = PreprocessSection(
      resize=(48, 48), crop='random', flip=True, jitter=(.4, .4, .4, .1), greyscale=.2,
      erase=.25, erase_fill='noise')
  for placed, random_on_host in (
      (placement.place_cached(section, (40, 40), None), set()),
      (placement.place_streamed(section, (40, 40), None), {'crop'})):
    assert placement.random_settings(placed.host).keys() == random_on_host
    for name in ('flip', 'jitter', 'greyscale', 'erase', 'erase_fill'):
      assert getattr(placed.remaining, name) == getattr(section, name)


@pytest.mark.parametrize('section', [
    PreprocessSection(crop='inception'), PreprocessSection(flip=True),
    PreprocessSection(randaugment_layers=1), PreprocessSection(jitter=(1, 0, 0, 0)),
    PreprocessSection(greyscale=0.5), PreprocessSection(erase=0.5)])
def test_evaluation_refuses_it(section, cifar_dir, tmp_path):
  data = DataSection('cifar10', cifar_dir, image_size=(20, 20), eval=section)
  name = next(iter(placement.random_settings(section)))
  with pytest.raises(UserError, match=f'config.data.eval has {name}=.*nothing random'):
    open_input(data, 'test', train=False)
  with pytest.raises(UserError, match='nothing random'):
    ImageReader(data)


@pytest.mark.parametrize('values, told', [
    (dict(randaugment_layers=-1),
     'train.randaugment_layers is -1; it must be at least 0'),
    (dict(randaugment_magnitude=31.),
     'randaugment_magnitude is 31.0; it must be from 0 to 30'),
    (dict(randaugment_grey=256), 'randaugment_grey is 256; it must be from -1 to 255'),
    (dict(jitter=(.4, .4, .4)), r'jitter is \(.*brightness'),
    (dict(jitter=(.4, .4, .4, .6)), 'at most 0.5'),
    (dict(jitter=(.4, -.4, .4, .1)), 'at least 0'),
    (dict(jitter_probability=1.5), 'jitter_probability is 1.5; .*a probability'),
    (dict(greyscale=-.1), 'greyscale is -0.1'),
    (dict(erase=2.), 'erase is 2.0'),
    (dict(erase_area=(.4, .02)), r'erase_area is \(0.4, 0.02\)'),
    (dict(erase_area=(.1, 1.2)), 'at most 1'),
    (dict(erase_ratio=(0., 2.)), 'erase_ratio'),
    (dict(erase_fill='mean'), "erase_fill is 'mean'; choose one of zero, noise"),
    (dict(crop_area=(.5,)), 'crop_area')])
def test_impossible_settings_are_explained(values, told):
  with pytest.raises(UserError, match=told):
    placement.place_cached(PreprocessSection(**values), (24, 24), (32, 32, 3))
