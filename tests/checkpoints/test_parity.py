"""Outputs of loaded checkpoints against the reference implementations' own."""

import pathlib
import shutil

import golden
import numpy as np
import parity
import pytest

from vit_jax.checkpoints.load import load

_FILES = pathlib.Path(__file__).parent / 'files'


def test_all_cases_are_here():
  assert len({case for case, _ in parity.CASES}) == 37


@pytest.mark.parametrize('case, file', parity.CASES)
def test_golden_outputs(case, file):
  for name, actual, expected, rtol in parity.measure(case, file):
    np.testing.assert_allclose(
        actual, expected, atol=parity.ATOL, rtol=rtol * parity.RTOL, err_msg=name)


def test_pytorch_file_is_the_same_model(tmp_path):
  """Written by torch.save of PyTorch 2.13."""
  folder = golden.FOLDER / 'hf_vit_cls'
  shutil.copy(_FILES / 'hf_vit_cls.bin', tmp_path / 'pytorch_model.bin')
  shutil.copy(folder / 'config.json', tmp_path)
  model, variables = load(tmp_path)
  same_model, same = load(folder)
  assert model == same_model
  flat, expected = (golden.flatten(x['params']) for x in (variables, same))
  assert flat.keys() == expected.keys()
  for name in flat:
    np.testing.assert_array_equal(flat[name], expected[name])


def test_shards_are_read_as_one(tmp_path):
  import json

  from safetensors.numpy import load_file, save_file
  folder = golden.FOLDER / 'timm_token'
  tensors = load_file(folder / 'model.safetensors')
  names = sorted(tensors)
  parts = {'a.safetensors': names[:9], 'b.safetensors': names[9:]}
  for file, part in parts.items():
    save_file({n: tensors[n] for n in part}, tmp_path / file)
  (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(
      {'weight_map': {n: file for file, part in parts.items() for n in part}}))
  shutil.copy(folder / 'config.json', tmp_path)
  assert load(tmp_path)[0] == load(folder)[0]


def test_explicit_settings_win():
  folder = golden.FOLDER / 'hf_vit_cls'
  model, _ = load(folder, gelu='tanh', layer_norm_eps=1e-6, dtype='bfloat16')
  assert (model.options.gelu, model.options.layer_norm_eps) == ('tanh', 1e-6)
  model, variables = load(folder, num_classes=3, scan=True)
  assert not variables['params']['head']['kernel'].any()
  assert variables['params']['Transformer']['encoderblock'][
      'LayerNorm_0']['scale'].shape == (2, 24)
