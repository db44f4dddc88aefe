"""Exports of our own: paths, checksums, and every file missing or changed."""

import io
import json
import os
import shutil
import zipfile

import golden
import jax
import numpy as np
import pytest

from vit_jax.checkpoints import orbax_arrays
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.code_bases.table import FORMATS
from vit_jax.checkpoints.convert import convert
from vit_jax.checkpoints.load import load
from vit_jax.checkpoints.weights import of_array
from vit_jax.models import layout, variants
from vit_jax.runtime import json_files
from vit_jax.runtime.errors import UserError

_HF = golden.FOLDER / 'hf_pixels'


@pytest.fixture(scope='module')
def export(tmp_path_factory):
  path = tmp_path_factory.mktemp('made') / 'export'
  convert(_HF, path, 'orbax', verification=False)
  return path


def test_relative_paths(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  convert(_HF, 'export', 'orbax')
  assert load('export')[0] == load(_HF)[0]
  assert os.listdir() == ['export']


def _files(folder):
  return sorted(x for x in folder.rglob('*') if x.is_file())


def test_a_missing_file_is_found(export, tmp_path):
  for file in _files(export):
    if file.parent.name == 'params' or 'encoderblock_0' in str(file):
      path = tmp_path / 'x'
      shutil.copytree(export, path)
      (path / file.relative_to(export)).unlink()
      with pytest.raises(UserError, match='x'):
        load(path)
      shutil.rmtree(path)


def test_a_changed_file_is_found(export, tmp_path):
  for file in _files(export):
    if file.parent.name == 'params' or 'encoderblock_0' in str(file):
      path = tmp_path / 'x'
      shutil.copytree(export, path)
      damaged = path / file.relative_to(export)
      content = bytearray(damaged.read_bytes()) or bytearray(b'x')
      content[len(content) // 2] ^= 4
      damaged.write_bytes(content)
      with pytest.raises(UserError, match='x'):
        load(path)
      shutil.rmtree(path)


def test_exports_of_earlier_versions_have_no_checksums(export, tmp_path):
  shutil.copytree(export, tmp_path / 'x')
  (tmp_path / 'x/params/checksums.json').unlink()
  description = json.loads((tmp_path / 'x/model.json').read_text())
  for name in ('sealed', 'class_names', 'preprocess'):
    del description[name]
  for name in ('pixel_mean', 'pixel_std'):
    del description['options'][name]
  (tmp_path / 'x/model.json').write_text(json.dumps(description))
  assert load(tmp_path / 'x')[0].options.pixel_mean == (0.5, 0.5, 0.5)


def test_fixed_positions_and_a_class_token_in_big_vision(tmp_path):
  model = variants.create(
      '', 3, patch_size=4, width=8, depth=1, mlp_dim=8, num_heads=2,
      position_embedding='sincos2d')
  params = layout.init(model, jax.random.key(0), (8, 8))
  FORMATS['orbax'].write(
      tmp_path / 'ours', model, (2, 2), Interface(),
      {name: of_array(np.asarray(x)) for name, x in orbax_arrays.flatten(
          params).items()}, lambda nbytes: None)
  lines = convert(tmp_path / 'ours', tmp_path / 'x.npz', 'big_vision')
  assert 'bit-identical' in lines[-1]


def test_impossible_shapes_in_an_npz(tmp_path):
  for shape in ('(True,)', '(-1,)'):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += ' ' * (117 - len(header)) + '\n'
    member = io.BytesIO(b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little')
                        + header.encode() + bytes(4))
    with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
      archive.writestr('cls.npy', member.getvalue())
    with pytest.raises(UserError, match='not a readable npz'):
      load(tmp_path / 'x.npz')


@pytest.mark.parametrize('name', ['config.json', 'preprocessor_config.json'])
def test_nonsense_beside_the_weights(name, tmp_path, monkeypatch):
  shutil.copytree(_HF, tmp_path / 'x')
  (tmp_path / 'x' / name).write_text('[' * 100_000)
  with pytest.raises(UserError, match=f'Cannot read .*{name}'):
    load(tmp_path / 'x')
  monkeypatch.setattr(json_files, 'LARGEST', 1000)
  with pytest.raises(UserError, match=f'{name} has 100,000 bytes'):
    load(tmp_path / 'x')


def test_a_pipe_is_no_checkpoint(tmp_path):
  os.mkfifo(tmp_path / 'x.npz')
  with pytest.raises(UserError, match='There is no'):
    load(tmp_path / 'x.npz')
