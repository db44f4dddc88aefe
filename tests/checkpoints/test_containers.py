"""Files as training scripts leave them: prefixes, shards, raw and averaged weights."""

import json
import shutil

import golden
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vit_jax.checkpoints import torch_file
from vit_jax.checkpoints.load import fitted, load
from vit_jax.runtime.errors import UserError

_FILES = golden.FOLDER.parent / 'checkpoints' / 'files'
_TIMM = golden.FOLDER / 'timm_pixels'


def _cls(path, **settings):
  return np.asarray(load(path, **settings)[1]['params']['cls'])


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'model.',
                                    'module._orig_mod.'])
def test_prefixes_of_wrappers(prefix, tmp_path):
  tensors = load_file(_TIMM / 'model.safetensors')
  save_file({f'{prefix}{n}': x for n, x in tensors.items()}, tmp_path / 'x.safetensors')
  shutil.copy(_TIMM / 'config.json', tmp_path)
  np.testing.assert_array_equal(_cls(tmp_path / 'x.safetensors'), tensors['cls_token'])


def test_a_student_and_a_teacher(tmp_path):
  tensors = load_file(_TIMM / 'model.safetensors')
  save_file({f'teacher.{n}': x for n, x in tensors.items()}, tmp_path / 'x.safetensors')
  with pytest.raises(UserError, match="holds a teacher.*removeprefix"):
    load(tmp_path / 'x.safetensors')


@pytest.mark.parametrize('ending', ['.pth.tar', '.ckpt', '.pt'])
def test_endings(ending, tmp_path):
  shutil.copy(_FILES / 'hf_vit_cls.bin', tmp_path / f'x{ending}')
  shutil.copy(golden.FOLDER / 'hf_vit_cls' / 'config.json', tmp_path)
  np.testing.assert_array_equal(
      _cls(tmp_path / f'x{ending}'), _cls(golden.FOLDER / 'hf_vit_cls'))


def test_shards_of_pytorch_files(tmp_path):
  shutil.copy(_FILES / 'hf_vit_cls.bin', tmp_path / 'pytorch_model-00001.bin')
  shutil.copy(golden.FOLDER / 'hf_vit_cls' / 'config.json', tmp_path)
  (tmp_path / 'pytorch_model.bin.index.json').write_text(json.dumps(
      {'weight_map': {'x': 'pytorch_model-00001.bin'}}))
  np.testing.assert_array_equal(_cls(tmp_path), _cls(golden.FOLDER / 'hf_vit_cls'))


def test_raw_and_averaged_weights(tmp_path):
  """`raw_and_averaged.pth.tar` was written by PyTorch 2.13, see reference_pixels."""
  shutil.copy(_FILES / 'raw_and_averaged.pth.tar', tmp_path)
  shutil.copy(_TIMM / 'config.json', tmp_path)
  path = tmp_path / 'raw_and_averaged.pth.tar'
  raw = load_file(_TIMM / 'model.safetensors')['cls_token']
  np.testing.assert_array_equal(_cls(path), raw + 1)
  np.testing.assert_array_equal(_cls(path, averaged=False), raw)
  with fitted(path) as (*_, report):
    assert report.ignored == [
        'state_dict: state_dict_ema is read; --averaged=false chooses the other']
  with torch_file.read_groups(path) as groups:
    assert list(groups) == ['state_dict_ema', 'state_dict']
