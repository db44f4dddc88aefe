"""ImageNet-21k from tiny downloads in each layout."""

import io
import pathlib
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from image_data import encode, picture

from vit_jax.config.sections import DataSection
from vit_jax.data import imagenet21k, open_input, open_source, preparing
from vit_jax.runtime.errors import UserError

COUNTS = {'n01440764': 5, 'n00004475': 4, 'n15102894': 3}
IMAGES = {
    f'{wnid}/{wnid}_{i}.JPEG': encode(picture(100 * k + i, 20 + i, 24))
    for k, (wnid, count) in enumerate(COUNTS.items()) for i in range(count)}


def add(tar, name, data):
  info = tarfile.TarInfo(name)
  info.size = len(data)
  tar.addfile(info, io.BytesIO(data))


def synset_tar(wnid, images):
  raw = io.BytesIO()
  with tarfile.open(fileobj=raw, mode='w') as tar:
    for name, data in images.items():
      if name.startswith(wnid):
        add(tar, name.split('/')[1], data)
    add(tar, 'words.txt', b'no image')
  return raw.getvalue()


def tars(path, images=IMAGES):
  path.mkdir()
  for wnid in {name.split('/')[0] for name in images}:
    (path / f'{wnid}.tar').write_bytes(synset_tar(wnid, images))
  (path / 'README').write_text('not named by a WordNet id')
  return path


def folders(path):
  for name, data in IMAGES.items():
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(data)
  return path


def tar_of_tars(path, mode='w'):
  with tarfile.open(path, mode) as tar:
    for wnid in COUNTS:
      add(tar, f'whole/{wnid}.tar', synset_tar(wnid, IMAGES))
  return path


def compressed(path):
  return tar_of_tars(path.with_suffix('.tar.gz'), 'w:gz')


def tar_of_folders(path):
  with tarfile.open(path, 'w') as tar:
    for name, data in IMAGES.items():
      add(tar, f'./{name}', data)
  return path


@pytest.mark.parametrize('make', [tars, folders, tar_of_tars, compressed,
                                  tar_of_folders])
def test_every_layout(tmp_path, make):
  source = make(tmp_path / 'source.tar')
  done = imagenet21k.prepare(str(source), str(tmp_path / 'out'))
  assert done == {'images': 12, 'classes': 3, 'empty_classes': 0, 'unreadable': 0}
  split = open_source(DataSection('imagenet21k', str(tmp_path / 'out')), 'full')
  # Numbered in the sorted order of the synsets, bytes as they were.
  wnids = sorted(COUNTS)
  assert split.class_names == wnids
  truth = {data: wnids.index(name.split('/')[0]) for name, data in IMAGES.items()}
  found = [split.read(i) for i in range(12)]
  assert dict(found) == truth
  # Shuffled: a slice is not one class.
  assert [label for _, label in found] != sorted(label for _, label in found)


def test_order_does_not_depend_on_the_layout(tmp_path):
  found = []
  for i, make in enumerate((tars, tar_of_folders)):
    root = str(tmp_path / f'out{i}')
    imagenet21k.prepare(str(make(tmp_path / f'source{i}')), root)
    split = open_source(DataSection('imagenet21k', root), 'full[2:9]')
    found.append([split.read(n)[0] for n in range(7)])
  assert found[0] == found[1]


def test_damage_is_left_out_and_listed(tmp_path):
  images = dict(IMAGES)
  images['n01440764/n01440764_1.JPEG'] = b'no image at all'
  cut = images['n01440764/n01440764_2.JPEG']
  images['n01440764/n01440764_2.JPEG'] = cut[:len(cut) // 2]
  source = tars(tmp_path / 'source', images)
  last = source / 'n15102894.tar'
  # In the middle of the second of its three images.
  with tarfile.open(last) as tar:
    end = tar.getmembers()[1].offset_data + 50
  last.write_bytes(last.read_bytes()[:end])
  done = imagenet21k.prepare(str(source), str(tmp_path / 'out'), threads=2)
  assert (done['images'], done['unreadable']) == (12 - 2 - 2, 3)
  builder = tfds.builder_from_directory(str(tmp_path / 'out/imagenet21k/1.0.0'))
  names = {e['file_name'].decode() for e in builder.as_dataset(
      split='full').as_numpy_iterator()}
  assert names == {name.split('/')[1] for name in IMAGES} - {
      'n01440764_1.JPEG', 'n01440764_2.JPEG', 'n15102894_1.JPEG', 'n15102894_2.JPEG'}
  listed = (pathlib.Path(builder.data_dir) / imagenet21k.SKIPPED).read_text()
  rows = [line.split('\t')[:2] for line in listed.splitlines()]
  assert rows == [['n01440764', 'n01440764_1.JPEG'], ['n01440764', 'n01440764_2.JPEG'],
                  ['n15102894', 'n15102894.tar, from there to its end']]


def test_classes_of_the_published_heads(tmp_path, capsys):
  """Order and number come from the list; words behind the ids are kept."""
  lines = ['n15102894', 'n02084071 dog,  domestic dog', 'n01440764 tench', 'n00004475']
  (tmp_path / 'list.txt').write_text('\n'.join(lines) + '\n\n')
  root = str(tmp_path / 'out')
  status = imagenet21k.main([
      str(tars(tmp_path / 'source')), f'--classes={tmp_path / "list.txt"}',
      f'--data_dir={root}', '--file_format=array_record'])
  assert status == 0
  assert '12 images of 4 classes, 1 of them without images' in capsys.readouterr().out
  data = DataSection('imagenet21k', root, image_size=(16, 16))
  data_input = open_input(data, 'full[:25%]', train=False)
  assert data_input.num_classes == 4 and data_input.num_examples == 3
  assert data_input.class_names[1:3] == ['n02084071 dog, domestic dog',
                                         'n01440764 tench']
  split = open_source(data, 'full')
  ids = [line.split()[0] for line in lines]
  truth = {data: ids.index(name.split('/')[0]) for name, data in IMAGES.items()}
  assert dict(split.read(i) for i in range(12)) == truth
  batch = next(data_input.start().eval_batches(3, np.arange(3)))
  assert batch['image'].shape == (3, 16, 16, 3) and batch['mask'].all()


def test_not_prepared(tmp_path):
  data = DataSection('imagenet21k', str(tmp_path))
  assert not preparing.is_prepared(data)
  with pytest.raises(UserError) as caught:
    open_source(data, 'full')
  command = f'python -m vit_jax.data.imagenet21k SOURCE --data_dir={tmp_path}'
  assert command in str(caught.value)


def both(path):
  source = tars(path)
  (source / 'n01440764').mkdir()
  return source


def empty(path):
  path.mkdir()
  return path


def cut_off(path):
  """In the header of the third image."""
  raw = tar_of_folders(path).read_bytes()
  path.write_bytes(raw[:_third(path) - 300])
  return path


def overwritten(path):
  raw = bytearray(tar_of_folders(path).read_bytes())
  start = _third(path) - 512
  raw[start:start + 512] = b'x' * 512
  path.write_bytes(raw)
  return path


def _third(path):
  with tarfile.open(path) as tar:
    return tar.getmembers()[2].offset_data


@pytest.mark.parametrize('make, classes, told', [
    (lambda path: path, '', 'does not exist. Expected a folder with n01440764.tar'),
    (empty, '', 'nothing named by a WordNet id'),
    (both, '', 'both n01440764 and n01440764.tar'),
    (cut_off, '', 'cut off or damaged'),
    (overwritten, '', 'cut off or damaged'),
    (tars, 'n01440764\nn15102894', '1 synsets .* does not list, such as n00004475'),
    (tars, 'n01440764\nn01440764', 'line 2: .* new WordNet id'),
    (tars, 'tench', 'line 1: .* new WordNet id'),
    (tars, '\n', 'lists no classes'),
])
def test_mistakes_are_explained(tmp_path, make, classes, told):
  source = make(tmp_path / 'source')
  path = ''
  if classes:
    path = str(tmp_path / 'list.txt')
    pathlib.Path(path).write_text(classes)
  with pytest.raises(UserError, match=told):
    imagenet21k.prepare(str(source), str(tmp_path / 'out'), path)
  assert not (tmp_path / 'out').exists()


def test_what_is_there_is_not_written_again(tmp_path):
  source = str(tars(tmp_path / 'source'))
  imagenet21k.prepare(source, str(tmp_path))
  assert preparing.is_prepared(DataSection('imagenet21k', str(tmp_path)))
  with pytest.raises(UserError, match='is there already'):
    imagenet21k.prepare(source, str(tmp_path))
