"""Positions resized as three code bases do it."""

import pathlib

import golden
import numpy as np
import pytest
import scipy.ndimage

from vit_jax.checkpoints import positions
from vit_jax.checkpoints.code_bases.table import POSITION_RESIZES, position_resize
from vit_jax.runtime.errors import UserError

_RNG = np.random.default_rng(0)
# Made by torch.nn.functional.interpolate of PyTorch 2.13 from a grid of 5 x 4.
_TORCH = np.load(pathlib.Path(__file__).parent / 'files' / 'torch_resize.npz')


@pytest.mark.parametrize('name', [n for n in _TORCH.files if n != 'table'])
def test_methods_of_pytorch(name):
  method, h, w = name.rsplit('_', 2)
  actual = positions.resize(
      _TORCH['table'], (5, 4), (int(h), int(w)), POSITION_RESIZES[method])
  np.testing.assert_allclose(actual, _TORCH[name], atol=5e-6)


@pytest.mark.parametrize('new', [(7, 9), (3, 2), (5, 8), (1, 1), (5, 4)])
def test_method_of_the_original_is_scipy_zoom(new):
  table = _RNG.normal(size=(1, 21, 6)).astype(np.float32)
  actual = positions.resize(table, (5, 4), new, POSITION_RESIZES['original'])
  expected = scipy.ndimage.zoom(
      table[0, 1:].reshape(5, 4, 6), (new[0] / 5, new[1] / 4, 1), order=1)
  np.testing.assert_array_equal(actual[:, 0], table[:, 0])
  np.testing.assert_allclose(actual[0, 1:], expected.reshape(-1, 6), atol=1e-5)


@pytest.mark.parametrize('case, old, new, method', [
    ('vitjax_posembed_resize', (4, 4), (6, 6), 'original'),
    ('vitjax_posembed_resize_gap', (7, 7), (3, 3), 'original')])
def test_golden_positions(case, old, new, method):
  data = golden.load_case(case)
  table = data['params']['Transformer']['posembed_input']['pos_embedding']
  np.testing.assert_allclose(
      positions.resize(table, old, new, POSITION_RESIZES[method]),
      data['io']['pos_embedding_resized'], atol=1e-5)


@pytest.mark.parametrize('method', POSITION_RESIZES)
def test_every_method_keeps_constants_prefix_and_dtype(method):
  table = np.concatenate([_RNG.normal(size=(1, 3, 4)), np.ones((1, 12, 4))], axis=1)
  resized = positions.resize(table, (3, 4), (5, 2), POSITION_RESIZES[method])
  np.testing.assert_array_equal(resized[:, :3], table[:, :3])
  np.testing.assert_allclose(resized[:, 3:], np.ones((1, 10, 4)), atol=1e-6)
  assert resized.dtype == table.dtype


def test_unknown_method():
  with pytest.raises(UserError, match='original, hf, timm, timm_npz'):
    position_resize('nearest')
