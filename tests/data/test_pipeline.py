"""Batches: their order, their pixels, and that both ways of making them agree."""

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import cached, open_input, order, tensorflow
from vit_jax.runtime.errors import UserError

INCEPTION = PreprocessSection(crop='inception')


def take(iterator, n):
  return [batch for batch, _ in zip(iterator, range(n), strict=False)]


def stacked(batches, key):
  return np.stack([batch[key] for batch in batches])


@pytest.fixture(params=['cached', 'streaming'])
def cifar(request, cifar_dir):
  return DataSection('cifar10', cifar_dir, image_size=(48, 48),
                     cache='always' if request.param == 'cached' else 'never')


@pytest.fixture
def imagenet(imagenet_dir):
  return DataSection('imagenet2012', imagenet_dir, image_size=(24, 24),
                     train=INCEPTION, cache='never')


@pytest.fixture(params=['cached', 'streamed crops'])
def data(request, cifar_dir, imagenet):
  if request.param == 'streamed crops':
    return imagenet
  return DataSection('cifar10', cifar_dir, image_size=(48, 48))


def test_global_batches_do_not_depend_on_hosts(data):
  def of_host(rows):
    reader = open_input(data, 'train', train=True).start()
    return take(reader.train_batches(5, 8, rows), 4)
  whole = of_host(np.arange(8))
  for hosts in (2, 4):
    parts = [of_host(rows) for rows in np.split(np.arange(8), hosts)]
    for key in ('image', 'label'):
      joined = np.concatenate([stacked(part, key) for part in parts], axis=1)
      np.testing.assert_array_equal(joined, stacked(whole, key))


def test_starting_late_equals_skipping(data):
  def batches(start):
    return open_input(data, 'train', train=True).start().train_batches(
        5, 8, np.arange(8), start)
  whole, late = take(batches(0), 6), take(batches(4), 2)
  for key in ('image', 'label'):
    np.testing.assert_array_equal(stacked(late, key), stacked(whole[4:], key))


def test_epochs_are_complete(cifar):
  reader = open_input(cifar, 'train', train=True).start()
  batches = take(reader.train_batches(0, 8, np.arange(8)), 25)
  images = stacked(batches, 'image').reshape(200, -1)
  for epoch in images.reshape(4, 50, -1):
    assert len({image.tobytes() for image in epoch}) == 50
  assert stacked(batches, 'label').dtype == np.int32


@pytest.mark.parametrize('batch_size, hosts', [(8, 1), (8, 2), (20, 4), (13, 1)])
def test_evaluation_is_exact(cifar, cifar_dir, batch_size, hosts):
  reader = open_input(cifar, 'test', train=False).start()
  seen = []
  for rows in np.split(np.arange(batch_size), hosts):
    batches = list(reader.eval_batches(batch_size, rows))
    assert len(batches) == order.num_eval_batches(reader.num_examples, batch_size)
    mask = stacked(batches, 'mask')
    seen += [image.tobytes() for image in stacked(batches, 'image')[mask]]
    assert not stacked(batches, 'image')[~mask].any()
  truth = tfds.builder('cifar10', data_dir=cifar_dir).as_dataset(split='test')
  assert sorted(seen) == sorted(e['image'].numpy().tobytes() for e in truth)


@pytest.mark.parametrize('section', [
    PreprocessSection(),
    PreprocessSection(resize_small=32, crop='central'),
    PreprocessSection(resize=(30, 28), method='bicubic', crop='central'),
    PreprocessSection(resize=(20, 20), method='area', antialias=True),
])
def test_cached_equals_streaming(imagenet_dir, section):
  found = []
  for cache in ('always', 'never'):
    data = DataSection('imagenet2012', imagenet_dir, image_size=(24, 24), eval=section,
                       cache=cache)
    data_input = open_input(data, 'validation', train=False)
    batches = list(data_input.start().eval_batches(4, np.arange(4)))
    assert batches[0]['image'].shape[1:] == data_input.stored_shape
    found.append(batches)
    assert data_input.mode == {'always': 'cached', 'never': 'streaming'}[cache]
  for kept, streamed in zip(*found, strict=True):
    for key in ('image', 'label', 'mask'):
      np.testing.assert_array_equal(kept[key], streamed[key])


def test_streamed_evaluation_equals_tfds_and_tf_image(imagenet_dir):
  tf = tensorflow.load()
  section = PreprocessSection(resize_small=32, crop='central')
  data = DataSection('imagenet2012', imagenet_dir, image_size=(24, 24), eval=section)
  reader = open_input(data, 'validation', train=False).start()
  batch = next(reader.eval_batches(10, np.arange(10)))
  truth = tfds.builder('imagenet2012', data_dir=imagenet_dir).as_dataset(
      split='validation')
  for image, label, example in zip(batch['image'], batch['label'], truth, strict=True):
    # 40x56 with the short side at 32: 32x44.8.
    small = tf.image.resize(example['image'], (32, 45))
    expected = tf.image.resize_with_crop_or_pad(small, 24, 24)
    assert abs(image - expected.numpy()).max() <= 0.5
    assert label == int(example['label'])


def test_random_crops_do_not_depend_on_threads(imagenet):
  def images(threads):
    data = dataclasses.replace(imagenet, decode_threads=threads)
    reader = open_input(data, 'train', train=True).start()
    return stacked(take(reader.train_batches(1, 8, np.arange(8)), 3), 'image')
  found = [images(threads) for threads in (0, 1, 7)]
  np.testing.assert_array_equal(found[0], found[1])
  np.testing.assert_array_equal(found[0], found[2])


def test_decoding_is_done_once(cifar_dir, monkeypatch):
  decoded, found = [], []
  def decode_split(*args, original=cached.decode_split):
    decoded.append(original(*args))
    return decoded[-1]
  monkeypatch.setattr(cached, 'decode_split', decode_split)
  data_input = open_input(DataSection('cifar10', cifar_dir, image_size=(32, 32)),
                          'train', train=True)
  assert not decoded
  threads = [threading.Thread(target=lambda: found.append(data_input.start()))
             for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(found) == 4 and len(decoded) == 1


@pytest.mark.slow
def test_a_program_may_end_in_the_middle_of_a_stream(cifar_dir):
  code = f'''
import numpy as np
from vit_jax.data import open_input
from vit_jax.config.sections import DataSection
data = DataSection('cifar10', {cifar_dir!r}, image_size=(32, 32), cache='never')
reader = open_input(data, 'train', train=True).start()
batches = reader.train_batches(0, 8, np.arange(8))
next(batches)
'''
  subprocess.run([sys.executable, '-c', code], check=True, timeout=60)


def test_mode_and_shape_are_known_from_metadata(cifar_dir, imagenet_dir):
  def mode(name, directory, split, for_training, **options):
    data = DataSection(name, directory, **{'image_size': (224, 224), **options})
    data_input = open_input(data, split, train=for_training)
    return data_input.mode, data_input.stored_shape
  cifar, jpegs = ('cifar10', cifar_dir), ('imagenet2012', imagenet_dir)
  assert mode(*cifar, 'train', True) == ('cached', (32, 32, 3))
  assert mode(*cifar, 'train', True, cache='never') == ('streaming', (32, 32, 3))
  assert mode(*cifar, 'train', True, cache_limit_gib=1e-4)[0] == 'streaming'
  assert mode(*cifar, 'train', True, image_size=(16, 16))[1] == (16, 16, 3)
  assert mode(*jpegs, 'train', True, train=INCEPTION)[0] == 'streaming'
  assert mode(*jpegs, 'validation', False) == ('cached', (224, 224, 3))
  with pytest.raises(UserError, match='no fixed size'):
    mode(*jpegs, 'train', True, train=INCEPTION, cache='always')
  with pytest.raises(UserError, match='nothing random'):
    mode(*jpegs, 'validation', False, eval=INCEPTION)
  with pytest.raises(UserError, match='sometimes'):
    mode(*cifar, 'train', True, cache='sometimes')
