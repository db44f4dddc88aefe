"""Damaged files: named in an error, or skipped and counted; never silent."""

import io
import pathlib
import shutil

import numpy as np
import pytest
from image_data import encode, picture, read_image_files
from PIL import Image

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import open_input
from vit_jax.runtime.errors import DataError

ROWS = np.arange(4)
INCEPTION = PreprocessSection(crop='inception', crop_area=(0.05, 0.1))


def folder_data(folder, **options):
  return DataSection('folder', str(folder), image_size=(24, 24), train=INCEPTION,
                     **options)


def copy_of(directory, tmp_path):
  shutil.copytree(directory, tmp_path / 'copy')
  return tmp_path / 'copy'


def shard(directory, n=1):
  return sorted(pathlib.Path(directory).rglob('*-train.*-of-00003'))[n]


def read_split(data, split='train'):
  open_input(data, split, train=False).start()


@pytest.mark.parametrize('kind', ['tfrecord', 'array_record'])
def test_flipped_byte(cifar_dir, cifar_arrayrecord_dir, tmp_path, kind):
  source = cifar_dir if kind == 'tfrecord' else cifar_arrayrecord_dir
  path = shard(copy_of(source, tmp_path))
  raw = bytearray(path.read_bytes())
  # The PNG of a record: its bytes are covered by the checksum alone.
  raw[raw.index(b'IDAT') + 100] ^= 1
  path.write_bytes(raw)
  with pytest.raises(DataError) as caught:
    read_split(DataSection('cifar10', str(tmp_path / 'copy'), image_size=(32, 32)))
  assert path.name in str(caught.value) and 'split train, record' in str(caught.value)


def test_cut_shard(cifar_dir, tmp_path):
  path = shard(copy_of(cifar_dir, tmp_path))
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(DataError, match=f'{path.name} is cut off'):
    read_split(DataSection('cifar10', str(tmp_path / 'copy'), image_size=(32, 32)))


def test_shard_cut_between_records(cifar_dir, tmp_path):
  path = shard(copy_of(cifar_dir, tmp_path))
  raw = path.read_bytes()
  first = int.from_bytes(raw[:8], 'little') + 16
  path.write_bytes(raw[:first])
  with pytest.raises(DataError, match='holds 1 records, expected'):
    read_split(DataSection('cifar10', str(tmp_path / 'copy'), image_size=(32, 32)))


def test_missing_shard(cifar_dir, tmp_path):
  path = shard(copy_of(cifar_dir, tmp_path))
  path.unlink()
  with pytest.raises(DataError, match=path.name):
    read_split(DataSection('cifar10', str(tmp_path / 'copy'), image_size=(32, 32)))


DAMAGE = {
    'cut': lambda raw: raw[:len(raw) // 2],
    # Only its last rows are missing, below most of the small crops drawn above.
    'cut at the end': lambda raw: raw[:-60],
    'no image': lambda raw: b'this is no image at all',
    'empty': lambda raw: b'',
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_jpeg_stops_training(folder, damage):
  path = folder / 'train' / 'dog' / '05.jpg'
  path.write_bytes(DAMAGE[damage](path.read_bytes()))
  reader = open_input(folder_data(folder), 'train', train=True).start()
  with pytest.raises(DataError, match=r'split train, record \d+ \(file .*05.jpg'):
    for _, _ in zip(range(3), reader.train_batches(0, 4, ROWS), strict=False):
      pass


def labels_and_images(reader, start=0, rows=ROWS, steps=9):
  batches = reader.train_batches(0, 4, rows, start)
  found = [next(batches) for _ in range(steps - start)]
  return (np.stack([b['label'] for b in found]), np.stack([b['image'] for b in found]))


def test_skipping_is_a_function_of_the_position(folder):
  (folder / 'train' / 'dog' / '05.jpg').write_bytes(b'no image')
  path = folder / 'train' / 'cat' / '02.jpg'
  path.write_bytes(path.read_bytes()[:-60])
  def fresh():
    return open_input(
        folder_data(folder, max_bad_records=2), 'train', train=True).start()
  whole = fresh()
  labels, images = labels_and_images(whole)
  assert len(whole.bad_records) == 2
  resumed = labels_and_images(fresh(), start=4)
  np.testing.assert_array_equal(resumed[0], labels[4:])
  np.testing.assert_array_equal(resumed[1], images[4:])
  other_host = labels_and_images(fresh(), rows=np.array([1, 3]))
  np.testing.assert_array_equal(other_host[1], images[:, [1, 3]])


def test_skipping_stops_at_its_bound(folder):
  for name in ('cat/02', 'cat/04', 'dog/05'):
    (folder / 'train' / f'{name}.jpg').write_bytes(b'no image')
  reader = open_input(
      folder_data(folder, max_bad_records=2), 'train', train=True).start()
  with pytest.raises(DataError, match='max_bad_records=2'):
    labels_and_images(reader)


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_evaluation_masks_bad_records(folder, cache):
  (folder / 'test' / 'dog' / '03.jpg').write_bytes(b'no image')
  data = folder_data(folder, max_bad_records=1, cache=cache)
  reader = open_input(data, 'test', train=False).start()
  for _ in range(2):  # A second evaluation counts nothing twice.
    batches = list(reader.eval_batches(4, ROWS))
    mask = np.concatenate([b['mask'] for b in batches])
    assert mask.sum() == 4 and len(mask) == 8 and len(reader.bad_records) == 1
    images = np.concatenate([b['image'] for b in batches])
    assert not images[~mask].any() and images[mask].any((1, 2, 3)).all()
  data = folder_data(folder, cache=cache)
  with pytest.raises(DataError, match='03.jpg'):
    list(open_input(data, 'test', train=False).start().eval_batches(4, ROWS))


def test_cached_training_replaces_bad_records(cifar_dir, tmp_path):
  path = shard(copy_of(cifar_dir, tmp_path))
  raw = bytearray(path.read_bytes())
  raw[raw.index(b'IDAT') + 100] ^= 1
  path.write_bytes(raw)
  data = DataSection('cifar10', str(tmp_path / 'copy'), image_size=(32, 32),
                     max_bad_records=1)
  found = {}
  for cache in ('always', 'never'):
    reader = open_input(
        DataSection(**{**vars(data), 'cache': cache}), 'train', train=True).start()
    found[cache] = labels_and_images(reader, steps=13)
    assert len(reader.bad_records) == 1
  np.testing.assert_array_equal(found['always'][0], found['never'][0])
  np.testing.assert_array_equal(found['always'][1], found['never'][1])


def test_unusual_but_intact_files(tmp_path):
  """Kinds are told by content; every one decodes to three channels."""
  image = picture(0)
  rgb = Image.fromarray(image)
  files = {
      'png.jpg': encode(image, 'PNG'),
      'grey.jpg': encode(rgb.convert('L')),
      'cmyk.jpg': encode(rgb.convert('CMYK')),
      'tail.jpg': encode(image) + b'\0' * 9,
      'alpha.png': encode(rgb.convert('RGBA'), 'PNG'),
      'palette.png': encode(rgb.convert('P'), 'PNG'),
      'sixteen.png': encode(Image.fromarray(image[..., 0].astype(np.uint16) * 257),
                            'PNG'),
      'a.bmp': encode(image, 'BMP'),
      'a.gif': encode(rgb.convert('P'), 'GIF'),
      'a.webp': encode(image, 'WEBP', lossless=True),
  }
  for name, raw in files.items():
    (tmp_path / name).write_bytes(raw)
  data = DataSection(image_size=image.shape[:2])
  images = read_image_files([tmp_path / name for name in files], data)
  found = dict(zip(files, images, strict=True))
  for name in ('png.jpg', 'alpha.png', 'a.bmp', 'a.webp'):
    np.testing.assert_array_equal(found[name], image, err_msg=name)
  palette = np.asarray(rgb.convert('P').convert('RGB'))
  np.testing.assert_array_equal(found['palette.png'], palette)
  np.testing.assert_array_equal(found['a.gif'], palette)
  np.testing.assert_array_equal(found['sixteen.png'][..., 1], image[..., 0])
  for name in ('grey.jpg', 'cmyk.jpg', 'tail.jpg'):
    # Pillow decodes JPEG a little differently, by one level on average.
    by_pillow = np.asarray(Image.open(io.BytesIO(files[name])).convert('RGB'))
    assert abs(found[name] - by_pillow.astype(float)).mean() < 1.5, name


@pytest.mark.parametrize('raw', [b'no image', b'', encode(picture(0))[:300]])
def test_prediction_names_the_file(tmp_path, raw):
  (tmp_path / 'x.jpg').write_bytes(raw)
  with pytest.raises(DataError, match='x.jpg'):
    read_image_files([tmp_path / 'x.jpg'], DataSection())
  with pytest.raises(DataError, match='missing.jpg'):
    read_image_files([tmp_path / 'missing.jpg'], DataSection())
