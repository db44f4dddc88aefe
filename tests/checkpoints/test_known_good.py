"""What is read is what was checked; configs that lie are found."""

import json
import shutil

import golden
import pytest

from vit_jax.checkpoints.code_bases.table import FORMATS
from vit_jax.checkpoints.code_bases.timm_architectures import ARCHITECTURES
from vit_jax.checkpoints.load import load
from vit_jax.models import variants
from vit_jax.runtime.errors import UserError


def _changed(case, folder, **values):
  shutil.copytree(golden.FOLDER / case, folder)
  config = json.loads((folder / 'config.json').read_text()) | values
  (folder / 'config.json').write_text(json.dumps(config))
  return folder


@pytest.mark.parametrize('name', [
    'vit_pe_core_base_patch16_224', 'vit_base_patch16_rpn_224',
    'vit_base_resnet50d_224', 'vit_of_tomorrow'])
def test_architectures_that_were_not_compared_are_refused(name, tmp_path, capsys):
  path = _changed('timm_pixels', tmp_path / 'x', architecture=name)
  with pytest.raises(UserError, match=f"'{name}', which is not .*any_architecture"):
    load(path)
  load(path, any_architecture=True)
  assert f"'{name}'" in capsys.readouterr().err


@pytest.mark.parametrize('name, heads, gelu, eps', [
    ('vit_base_patch16_gap_224', 16, 'exact', 1e-6),
    ('vit_large_patch16_siglip_256', 16, 'exact', 1e-6),
    ('vit_large_patch16_siglip_512', 16, 'tanh', 1e-6),
    ('vit_base_patch32_clip_quickgelu_224', 12, 'quick', 1e-5)])
def test_what_only_the_name_says(name, heads, gelu, eps):
  assert ARCHITECTURES[name] == (heads, gelu, eps)


@pytest.mark.parametrize('values', [
    {'hidden_size': 48, 'num_attention_heads': 4}, {'num_hidden_layers': 2},
    {'intermediate_size': 64}, {'patch_size': 8}])
def test_a_config_of_other_weights(values, tmp_path):
  path = _changed('hf_pixels', tmp_path / 'x', **values)
  with pytest.raises(UserError, match=f'config.json says {next(iter(values))}'):
    load(path)


@pytest.mark.parametrize('eps', [1e12, float('inf'), float('nan'), True, 0, 0.1])
def test_an_impossible_epsilon(eps, tmp_path):
  path = _changed('hf_pixels', tmp_path / 'x', layer_norm_eps=eps)
  with pytest.raises(UserError, match='layer_norm_eps'):
    load(path)


@pytest.mark.parametrize('bias, norm, words', [
    (True, False, ''), (False, True, ''),
    (True, True, 'a bias of the patches together'),
    (False, False, 'a patch embedding without bias')])
def test_timm_has_a_patch_bias_exactly_without_pre_norm(bias, norm, words):
  model = variants.create(
      '', 3, patch_size=8, width=32, depth=2, mlp_dim=64, num_heads=2, patch_bias=bias,
      pre_norm=norm)
  if not words:
    FORMATS['timm'].check_holds(model)
    return
  with pytest.raises(UserError, match=f'has no place for {words}'):
    FORMATS['timm'].check_holds(model)
