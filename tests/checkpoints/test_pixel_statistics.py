"""Pixel statistics: read, applied inside the model, written back or folded."""

import dataclasses
import json

import golden
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from vit_jax import config as config_lib
from vit_jax.checkpoints import initial
from vit_jax.checkpoints.code_bases import pixels
from vit_jax.checkpoints.convert import convert
from vit_jax.checkpoints.load import load
from vit_jax.models import patches, variants
from vit_jax.runtime.errors import UserError

_HF, _TIMM = golden.FOLDER / 'hf_pixels', golden.FOLDER / 'timm_pixels'
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIZES = {'patch_size': 4, 'width': 8, 'depth': 1, 'mlp_dim': 8, 'num_heads': 2}


def _statistics(model):
  return model.options.pixel_mean, model.options.pixel_std


@pytest.mark.parametrize('source, to', [(_HF, 'hf'), (_TIMM, 'timm')])
def test_they_come_back_and_weights_are_bit_identical(source, to, tmp_path):
  convert(source, tmp_path / 'ours', 'orbax', verification=False)
  convert(tmp_path / 'ours', tmp_path / 'back', to, verification=False)
  assert _statistics(load(tmp_path / 'ours')[0]) == (_MEAN, _STD)
  old, new = (load_file(x / 'model.safetensors') for x in (source, tmp_path / 'back'))
  assert old.keys() == new.keys()
  for name in old:
    np.testing.assert_array_equal(old[name], new[name], err_msg=name)
  if to == 'hf':
    old, new = (json.loads((x / 'preprocessor_config.json').read_text())
                for x in (source, tmp_path / 'back'))
    assert new == old
  else:
    said = json.loads((tmp_path / 'back' / 'config.json').read_text())['pretrained_cfg']
    assert (tuple(said['mean']), tuple(said['std'])) == (_MEAN, _STD)


@pytest.mark.parametrize('source, eps', [(_HF, 1e-12), (_TIMM, 1e-6)])
@pytest.mark.parametrize('to', ['npz', 'big_vision'])
def test_where_they_have_no_place_they_join_the_first_layer(source, eps, to, tmp_path):
  lines = convert(source, tmp_path / 'x.npz', to)
  assert any('pixel statistics: they are part of the first layer' in x for x in lines)
  with np.load(source / 'io.npz') as io:
    model, variables = load(tmp_path / 'x.npz', gelu='exact', layer_norm_eps=eps)
    assert _statistics(model) == ((0.5,) * 3,) * 2
    logits, _ = model.apply(variables, io['image'])
    np.testing.assert_allclose(logits, io['logits'], atol=5e-5, rtol=1e-4)


def test_a_standardised_first_layer_takes_none(tmp_path):
  with pytest.raises(UserError, match='pixel statistics of its own'):
    convert(golden.FOLDER / 'timm_hybrid', tmp_path / 'x.npz', 'npz', pixel_mean=_MEAN)
  assert not list(tmp_path.iterdir())


def test_one_half_changes_nothing():
  images = jnp.ones((1, 8, 8, 3))
  plain = variants.create('', 3, **_SIZES)
  assert patches.normalise(plain.options, images) is images
  assert variants.create('', 3, **_SIZES, pixel_mean=0.5, pixel_std=[0.5] * 3) == plain


@pytest.mark.parametrize('bad', [
    {'pixel_std': 0.0}, {'pixel_mean': (0.5, 0.5)}, {'pixel_mean': float('nan')},
    {'pixel_std': ('a', 1, 1)}])
def test_impossible_values_are_refused(bad):
  with pytest.raises(UserError, match=f'model {next(iter(bad))} is'):
    variants.create('', 3, **_SIZES, **bad)


@pytest.mark.parametrize('said, mean, std', [
    ({}, 0.5, 0.5), ({'image_mean': 0.4, 'image_std': [0.2] * 3}, 0.4, 0.2),
    ({'do_normalize': False, 'image_mean': [0.1] * 3}, 0.0, 1.0),
    ({'do_rescale': False, 'image_mean': [51.0] * 3, 'image_std': [255.0] * 3},
     0.2, 1.0)])
def test_what_a_processor_says(said, mean, std):
  found = pixels.in_preprocessor(said)
  np.testing.assert_allclose(found['pixel_mean'], mean)
  np.testing.assert_allclose(found['pixel_std'], std)


def _config(**model):
  return config_lib.from_dict({
      'model': {'variant': '', 'patch_size': (4, 4), 'width': 24, 'depth': 1,
                'mlp_dim': 32, 'num_heads': 3, **model},
      'data': {'image_size': (8, 8)}, 'init': {'checkpoint': str(_HF)}})


def test_fine_tuning_takes_those_of_the_checkpoint(tmp_path, capsys):
  found = initial.with_pixels(_config(), str(tmp_path)).model
  assert (found.pixel_mean, found.pixel_std) == (_MEAN, _STD)
  assert f'mean {_MEAN}, standard deviation {_STD}' in capsys.readouterr().out
  given = _config(pixel_mean=(0.5,) * 3)
  assert initial.with_pixels(given, str(tmp_path)) == given


def test_a_resumed_run_keeps_its_own(tmp_path):
  config = _config()
  gone = dataclasses.replace(config, init=dataclasses.replace(
      config.init, checkpoint='/no/such/file'))
  (tmp_path / 'config.json').write_text(json.dumps(config_lib.to_dict(
      _config(pixel_mean=_MEAN, pixel_std=_STD))))
  found = initial.with_pixels(gone, str(tmp_path)).model
  assert (found.pixel_mean, found.pixel_std) == (_MEAN, _STD)
