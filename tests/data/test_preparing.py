"""What users are told to do for data sets that are not there yet."""

import re

import pytest
import tensorflow_datasets as tfds
from image_data import picture, write_tiny

from vit_jax.config.sections import DataSection
from vit_jax.data import open_source, preparing
from vit_jax.runtime.errors import UserError

VTAB = ('caltech101:3.*.*', 'cifar100:3.*.*', 'dtd:3.*.*', 'oxford_flowers102:2.*.*',
        'oxford_iiit_pet', 'sun397/tfds:4.*.*', 'svhn_cropped:3.*.*',
        'patch_camelyon:2.*.*', 'eurosat/rgb:2.*.*', 'resisc45:3.*.*',
        'diabetic_retinopathy_detection/btgraham-300:3.*.*', 'clevr:3.*.*',
        'dmlab:2.0.1', 'kitti:3.*.*', 'dsprites:2.*.*', 'smallnorb:2.*.*')


@pytest.mark.parametrize('name', VTAB)
def test_every_vtab_builder(tmp_path, name):
  data = DataSection(name, str(tmp_path))
  assert not preparing.is_prepared(data)
  told = preparing.how_to_prepare(name, str(tmp_path))
  with pytest.raises(UserError) as caught:
    open_source(data, 'train')
  assert told in str(caught.value)
  assert f"tfds.builder('{name}', data_dir='{tmp_path}').download_and_prepare()" in told
  manual = name.startswith(('resisc45', 'diabetic'))
  assert (f'{tmp_path}/downloads/manual' in told) == manual
  # The names of the packages as pip knows them, from the builders' own imports.
  imports = {'opencv-python-headless': ('sun397', 'kitti', 'diabetic'),
             'scipy': ('svhn', 'oxford_flowers'), 'h5py': ('dsprites', 'patch')}
  needed = [package for package, names in imports.items() if name.startswith(names)]
  assert re.findall(r'pip install (\S+)', told) == needed


@pytest.mark.parametrize('name, version', [
    ('kitti:3.1.0', '3.3.0'), ('clevr:3.0.0', '3.1.0'),
    ('oxford_iiit_pet:3.*.*', '4.0.0')])
def test_versions_that_cannot_be_prepared_any_more(tmp_path, name, version):
  base = name.split(':')[0]
  with pytest.raises(UserError) as caught:
    open_source(DataSection(name, str(tmp_path)), 'train')
  assert f'but {base} (version {version}): use config.data.name={base}.' in str(
      caught.value)
  assert f"tfds.builder('{base}', " in str(caught.value)
  assert not preparing.is_prepared(DataSection(name, str(tmp_path)))


def test_another_version_is_pointed_out(tmp_path, monkeypatch):
  def old(split, i):
    return {'file_name': f'{i}.jpg', 'image': picture(i), 'label': i % 102}
  builder = tfds.builder_cls('oxford_flowers102')
  monkeypatch.setattr(builder, 'VERSION', tfds.core.Version('2.0.9'))
  write_tiny('oxford_flowers102', tmp_path, {'train': 3}, old)
  monkeypatch.undo()
  with pytest.raises(UserError, match=r'name=oxford_flowers102:2\.0\.9 reads it'):
    open_source(DataSection('oxford_flowers102', str(tmp_path)), 'train')
  data = DataSection('oxford_flowers102:2.0.9', str(tmp_path))
  assert preparing.is_prepared(data) and open_source(data, 'train').num_examples == 3


def test_what_is_there(cifar_dir, folder):
  assert preparing.is_prepared(DataSection('cifar10:3.*.*', cifar_dir))
  assert preparing.is_prepared(DataSection('digits'))
  assert preparing.is_prepared(DataSection('folder', str(folder)))
  assert not preparing.is_prepared(DataSection('folder', str(folder / 'nowhere')))
  with pytest.raises(UserError, match='cifar10'):
    preparing.is_prepared(DataSection('cifar1O'))


def test_directory_of_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  assert f"data_dir='{tmp_path}'" in preparing.how_to_prepare('cifar10')
