"""Readers against TFDS and the files themselves; what users get told."""

import concurrent.futures as futures
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from image_data import encode, picture
from PIL import Image, features
from sklearn import datasets

from vit_jax.config.sections import DataSection
from vit_jax.data import open_source
from vit_jax.preprocessing.host import decode
from vit_jax.runtime.errors import DataError, UserError

SPLITS = ['train', 'test', 'train[:50%]+train[75%:]', 'train[10:20]+test[-3:]', 'all']


def read_all(source):
  examples = [source.read(i) for i in range(source.num_examples)]
  return ([decode.with_pillow(data) for data, _ in examples],
          [label for _, label in examples])


@pytest.mark.parametrize('split', SPLITS)
def test_tfrecord_equals_tfds(cifar_dir, split):
  images, labels = read_all(open_source(DataSection('cifar10', cifar_dir), split))
  # TFDS reads shards in turns unless it is told not to.
  in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
  truth = list(tfds.builder('cifar10', data_dir=cifar_dir).as_dataset(
      split=split, read_config=in_order))
  assert labels == [int(example['label']) for example in truth]
  np.testing.assert_array_equal(images, [example['image'] for example in truth])


@pytest.mark.parametrize('split', SPLITS[:4])
def test_arrayrecord_equals_tfds(cifar_arrayrecord_dir, split):
  data = DataSection('cifar10:3.*.*', cifar_arrayrecord_dir)
  images, labels = read_all(open_source(data, split))
  builder = tfds.builder('cifar10', data_dir=cifar_arrayrecord_dir)
  truth = builder.as_data_source(split=split)
  assert labels == [int(example['label']) for example in truth]
  np.testing.assert_array_equal(images, [example['image'] for example in truth])


def test_metadata(cifar_dir):
  source = open_source(DataSection('cifar10', cifar_dir), 'train[:40%]')
  assert (source.num_examples, source.num_classes) == (20, 10)
  assert source.image_shape == (32, 32, 3)
  # The names of the classes come with the real download.
  assert source.class_names == [str(n) for n in range(10)]


def test_digits_equal_scikit_learn():
  truth = datasets.load_digits()
  pixels = np.round(truth.images / 16 * 255)
  for split, chosen in (('train', np.arange(1797) % 5 != 4),
                        ('test', np.arange(1797) % 5 == 4)):
    source = open_source(DataSection(), split)
    images, labels = read_all(source)
    ours = {(label, image[:, :, 0].tobytes())
            for image, label in zip(images, labels, strict=True)}
    theirs = {
        (label, image.astype(np.uint8).tobytes())
        for image, label in zip(pixels[chosen], truth.target[chosen], strict=True)}
    assert len(labels) == chosen.sum() and ours == theirs
    assert source.class_names == [str(n) for n in range(10)]


@pytest.mark.slow
def test_digits_prepared_by_two_processes_at_once(tmp_path):
  code = f'''
from vit_jax.data import open_source
from vit_jax.config.sections import DataSection
print(open_source(DataSection(dir={str(tmp_path)!r}), 'test').read(358)[1])
'''
  with futures.ThreadPoolExecutor(2) as pool:
    done = list(pool.map(lambda _: subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True,
        cwd=os.getcwd()), range(2)))
  assert done[0].stdout == done[1].stdout and len(done[0].stdout) == 2
  assert os.listdir(tmp_path) == ['digits']


def test_prepared_digits_do_not_import_tensorflow():
  open_source(DataSection(), 'train')
  code = '''
import sys, numpy as np
from vit_jax.data import open_input
from vit_jax.config.sections import DataSection
data = open_input(DataSection(image_size=(32, 32)), 'train', train=True)
next(data.start().train_batches(0, 4, np.arange(4)))
assert 'tensorflow' not in sys.modules and 'jax' not in sys.modules
'''
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('change, told', [
    (dict(name='cifar1O'), 'cifar10'),
    (dict(name='digit'), 'digits'),
    (dict(name='huggingface:mnist'), 'no name of a data set'),
    (dict(name='cifar100'), "tfds.builder('cifar100', data_dir="),
    (dict(name='resisc45'), 'downloads/manual'),
    (dict(name='cifar10:2.0.0'), '2.0.0'),
    (dict(dir='hdfs://host/x'), 'unknown kind hdfs://'),
    (dict(image_key='picture'), 'expected one of: image'),
    (dict(label_key='id'), 'Expected one of: label'),
    (dict(name='folder', dir=''), 'config.data.dir'),
    (dict(name='folder', dir='/nowhere'), 'No such file'),
])
def test_mistakes_are_explained(cifar_dir, change, told):
  data = dataclasses.replace(DataSection('cifar10', cifar_dir), **change)
  with pytest.raises(UserError, match='(?s).*') as caught:
    open_source(data, 'train')
  assert told in str(caught.value)


@pytest.mark.parametrize('split', [
    'trian', 'train[:', 'train[60:70]', 'train[3:3]', 'train[:x%]', 'train[::2]'])
def test_unknown_splits_list_the_known_ones(cifar_dir, split):
  with pytest.raises(UserError) as caught:
    open_source(DataSection('cifar10', cifar_dir), split)
  assert 'train (50 examples), test (13 examples)' in str(caught.value)


def test_folder(folder):
  (folder / 'train' / 'cat' / 'notes.txt').write_text('no image')
  (folder / 'train' / 'cat' / '._00.jpg').write_bytes(b'left by macOS')
  data = DataSection('folder', str(folder))
  source = open_source(data, 'train')
  assert source.class_names == ['cat', 'dog'] and source.num_examples == 12
  truth = {encode(picture(i)): i % 2 for i in range(12)}
  assert dict(source.read(i) for i in range(12)) == truth
  first, rest = open_source(data, 'train[:50%]'), open_source(data, 'train[50%:]')
  assert {first.read(i)[1] for i in range(6)} == {0, 1}
  assert ([first.read(i) for i in range(6)] + [rest.read(i) for i in range(6)]
          == [source.read(i) for i in range(12)])


def test_folder_without_images(tmp_path):
  (tmp_path / 'train' / 'cat').mkdir(parents=True)
  with pytest.raises(UserError, match='holds no images'):
    open_source(DataSection('folder', str(tmp_path)), 'train')


def test_folder_class_that_cannot_be_learnt(folder):
  (folder / 'test' / 'Cat').mkdir()
  (folder / 'test' / 'Cat' / '0.png').write_bytes(encode(picture(0), 'PNG'))
  with pytest.raises(UserError, match='Cat'):
    open_source(DataSection('folder', str(folder)), 'test')


def test_label_out_of_range(cifar_dir, monkeypatch):
  source = open_source(DataSection('cifar10', cifar_dir), 'train')
  monkeypatch.setattr(source, 'num_classes', 3)
  bad = next(i for i in range(50) if open_source(
      DataSection('cifar10', cifar_dir), 'train').read(i)[1] >= 3)
  with pytest.raises(DataError, match=f'cifar10, split train, record {bad}.*label'):
    source.read(bad)


def test_images_in_a_folder_inside_a_class_folder_are_not_left_out(folder):
  (folder / 'train' / 'cat' / 'more').mkdir()
  with pytest.raises(UserError, match="holds the folder 'more'.*Move the images up"):
    open_source(DataSection(name='folder', dir=str(folder)), 'train')


def test_folder_takes_every_kind_of_image(folder):
  rgb = Image.fromarray(picture(0))
  kinds = {'a.TIF': 'TIFF', 'b.tiff': 'TIFF', 'c.jfif': 'JPEG', 'd.ppm': 'PPM',
           'e.WebP': 'WEBP', 'f.bmp': 'BMP', 'g.gif': 'GIF', 'h.JPEG': 'JPEG',
           'i.png': 'PNG', 'j.jp2': 'JPEG2000'}
  if features.check('avif'):
    kinds['k.avif'] = 'AVIF'
  (folder / 'train' / 'bird').mkdir()
  for name, kind in kinds.items():
    rgb.save(folder / 'train' / 'bird' / name, kind)
  source = open_source(DataSection('folder', str(folder)), 'train')
  assert source.class_names == ['bird', 'cat', 'dog']
  assert source.num_examples == 12 + len(kinds)
  for i in range(source.num_examples):
    data = decode.portable(source.read(i)[0]).data
    assert decode.is_jpeg(data) or data.startswith(b'\x89PNG')


def test_folder_tells_what_it_leaves_out_once(folder, capsys):
  (folder / 'train' / 'cat' / 'notes.txt').write_text('no image')
  (folder / 'train' / 'cat' / 'a.HEIC').write_bytes(b'no image')
  (folder / 'train' / 'cat' / '.DS_Store').write_bytes(b'left by macOS')
  (folder / 'train' / 'fox').mkdir()
  (folder / 'test' / 'lost.png').write_bytes(encode(picture(0), 'PNG'))
  data = DataSection('folder', str(folder))
  for split in ('train[:90%]', 'train[90%:]', 'test'):
    open_source(data, split)
  err = capsys.readouterr().err
  assert err.count('left out') == 1
  for told in ('2 file(s) of other kinds (.heic: 1, .txt: 1)', 'train/cat/notes.txt',
               '1 image(s) outside of class folders, such as test/lost.png',
               '1 class folder(s) without an image, such as train/fox'):
    assert told in err, err
  # A folder that has changed is listed anew.
  (folder / 'train' / 'fox' / '0.png').write_bytes(encode(picture(0), 'PNG'))
  os.utime(folder / 'train' / 'fox', (1, 1))
  assert open_source(data, 'train').num_examples == 13


def test_folder_of_other_files_alone_says_so(tmp_path):
  (tmp_path / 'train' / 'cat').mkdir(parents=True)
  (tmp_path / 'train' / 'cat' / '0.heic').write_bytes(b'')
  with pytest.raises(UserError, match=r'holds no images.*\.heic: 1.*train/cat/0.heic'):
    open_source(DataSection('folder', str(tmp_path)), 'train')
