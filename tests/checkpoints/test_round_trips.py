"""There and back, bit for bit."""

import json
import re

import golden
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from vit_jax.checkpoints.code_bases import timm_config
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.convert import convert
from vit_jax.checkpoints.load import load
from vit_jax.models import variants
from vit_jax.runtime.errors import UserError

_CASES = {case: golden.FOLDER / case for case in (
    path.name for path in golden.FOLDER.iterdir())}


def _convert(source, target, to, **settings):
  convert(source, target, to, verification=False, **settings)
  return target


def _npz(path):
  with np.load(path) as arrays:
    return dict(arrays)


def _assert_equal(actual, expected):
  assert actual.keys() == expected.keys()
  for name, array in expected.items():
    assert actual[name].dtype == array.dtype, name
    np.testing.assert_array_equal(actual[name], array, err_msg=name)


@pytest.mark.parametrize('case', [
    'vitjax_token_prelinen', 'vitjax_repsize', 'vitjax_hybrid', 'vitjax_hybrid_stem'])
def test_npz_to_orbax_to_npz(case, tmp_path):
  source = _CASES[case] / 'params.npz'
  exported = _convert(source, tmp_path / 'exported', 'orbax')
  back = _convert(exported, tmp_path / 'back.npz', 'npz')
  _assert_equal(_npz(back), _npz(source))


@pytest.mark.parametrize('case, settings', [
    ('vitjax_mixer', {}),
    ('vitjax_headless', {'pool': 'none', 'image_size': (32, 48)})])
def test_npz_to_orbax_to_npz_under_linen_names(case, settings, tmp_path):
  source = _CASES[case] / 'params.npz'
  exported = _convert(source, tmp_path / 'exported', 'orbax', **settings)
  model, variables = load(source, **settings)
  again, restored = load(exported)
  assert again == model
  _assert_equal(golden.flatten(restored['params']), golden.flatten(variables['params']))
  back = _convert(exported, tmp_path / 'back.npz', 'npz')
  _assert_equal(golden.flatten(load(back, **settings)[1]['params']),
                golden.flatten(variables['params']))


@pytest.mark.parametrize('case', [
    'hf_vit_cls', 'hf_vit_model_pooler', 'hf_vit_cfgvariant'])
def test_hugging_face_to_ours_and_back(case, tmp_path):
  source = _CASES[case]
  exported = _convert(source, tmp_path / 'exported', 'orbax')
  back = _convert(exported, tmp_path / 'back', 'hf')
  _assert_equal(load_file(back / 'model.safetensors'),
                load_file(source / 'model.safetensors'))
  old, new = (json.loads((x / 'config.json').read_text()) for x in (source, back))
  if old['hidden_act'] == 'gelu_new':
    old['hidden_act'] = 'gelu_pytorch_tanh'  # two spellings of one function
  if 'id2label' not in old:
    new = {k: v for k, v in new.items() if k not in ('id2label', 'label2id')}
  del new['encoder_stride']
  assert new == {k: old.get(k) for k in new}


@pytest.mark.parametrize(
    'case', sorted(case for case in _CASES if case.startswith('timm_')))
def test_timm_to_ours_and_back(case, tmp_path):
  source = _CASES[case]
  exported = _convert(source, tmp_path / 'exported', 'orbax')
  back = _convert(exported, tmp_path / 'back', 'timm')
  _assert_equal(load_file(back / 'model.safetensors'),
                load_file(source / 'model.safetensors'))
  # The written config.json describes the same model.
  assert load(back)[0] == load(source)[0]


@pytest.mark.parametrize('case', [
    'bv_tok', 'bv_gap', 'bv_map', 'bv_sincos2d_rep', 'bv_bit_resnet', 'bv_bit_paper',
    'bv_bf16_npz'])
def test_big_vision_to_ours_and_back(case, tmp_path):
  source = _CASES[case] / 'params.npz'
  exported = _convert(source, tmp_path / 'exported', 'orbax')
  back = _convert(exported, tmp_path / 'back.npz', 'big_vision')
  expected = {name if name.startswith('params/') else f'params/{name}': x
              for name, x in _npz(source).items()}
  _assert_equal(_npz(back), expected)


@pytest.mark.parametrize('case', ['bv_gap', 'bv_map'])
def test_loop_to_scan_to_loop(case, tmp_path):
  loop, scan = (_CASES[case] / x for x in ('params.npz', 'params_scan.npz'))
  stacked = _convert(loop, tmp_path / 'scan.npz', 'big_vision', scan=True)
  _assert_equal(_npz(stacked), _npz(scan))
  unrolled = _convert(scan, tmp_path / 'loop.npz', 'big_vision', scan=False)
  _assert_equal(_npz(unrolled), _npz(loop))


@pytest.mark.slow
@pytest.mark.parametrize('case, formats', [
    ('vitjax_token_prelinen', ('hf', 'timm', 'big_vision', 'npz')),
    ('timm_map_siglip', ('big_vision', 'timm')),
    ('timm_gap_noclass', ('npz', 'big_vision', 'timm')),
    ('hf_vit_cls', ('npz', 'timm', 'big_vision')),
    ('timm_hybrid', ('npz',))])
def test_every_step_of_a_journey_is_verified(case, formats, tmp_path):
  source = _CASES[case]
  source = source / 'params.npz' if (source / 'params.npz').exists() else source
  model, _ = load(source)
  for i, to in enumerate(formats):
    ending = '.npz' if to in ('npz', 'big_vision') else ''
    said = {name: getattr(model.options, name) for name in (
        'num_heads', 'gelu', 'layer_norm_eps')} if i else {}
    lines = convert(source, tmp_path / f'{i}{ending}', to, **said)
    assert 'Verified' in lines[-1]
    source = tmp_path / f'{i}{ending}'


def test_differences_between_code_bases_are_printed(tmp_path):
  lines = convert(_CASES['hf_vit_cls'], tmp_path / 'x.npz')
  assert 'gelu: exact here, tanh there' in lines[-1]
  assert 'layer_norm_eps: 1e-12 here, 1e-06 there' in lines[-1]
  assert 'logits differ by up to' in lines[-1]


def test_dropped_and_resized_parts_are_printed(tmp_path):
  text = '\n'.join(convert(
      _CASES['vitjax_posembed_resize'] / 'params.npz', tmp_path / 'x', 'hf',
      representation_size=0, num_classes=10, image_size=(48, 32)))
  assert 'pre_logits/kernel (32, 24): dropped' in text
  assert 'from 4 x 4 to 6 x 4 patches' in text
  assert 'zeros: head/kernel (32, 10)' in text


@pytest.mark.parametrize('case, to, part', [
    ('timm_qknorm', 'npz', 'qk_norm'), ('timm_qknorm', 'hf', 'qk_norm'),
    ('timm_reg_gap', 'big_vision', 'registers, layer_scale, pool_norm'),
    ('timm_prenorm', 'hf', 'pre_norm, a patch embedding without bias'),
    ('bv_map', 'npz', "pool 'map'"), ('bv_sincos2d_rep', 'timm', 'pre_logits'),
    ('vitjax_repsize', 'timm', 'pre_logits'),
    ('vitjax_repsize', 'hf', 'pre_logits together with a head'),
    ('vitjax_hybrid', 'hf', 'a ResNet'), ('vitjax_hybrid', 'big_vision', 'a ResNet'),
    ('vitjax_mixer', 'hf', 'a Mixer'), ('bv_bit_paper', 'timm', 'a BiT'),
    ('timm_avg_fcnorm', 'npz', "a class token with pool 'gap'")])
def test_what_a_format_cannot_hold_is_refused(case, to, part, tmp_path):
  source = _CASES[case]
  source = source / 'params.npz' if (source / 'params.npz').exists() else source
  target = tmp_path / ('x.npz' if to in ('npz', 'big_vision') else 'x')
  with pytest.raises(UserError, match='(?s)' + part.replace('(', r'\(')):
    convert(source, target, to)
  assert not list(tmp_path.iterdir())


def test_absent_biases_become_zeros(tmp_path):
  target = _convert(_CASES['hf_vit_cfgvariant'], tmp_path / 'x.npz', 'npz')
  bias = _npz(target)[
      'Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/bias']
  assert bias.shape == (3, 8) and not bias.any()


def test_export_of_stacked_blocks(tmp_path):
  source = _CASES['bv_gap'] / 'params_scan.npz'
  exported = _convert(source, tmp_path / 'exported', 'orbax')
  model, variables = load(exported)
  assert model.options.scan
  same, expected = load(source)
  assert jax.tree.all(jax.tree.map(
      lambda a, b: bool((a == b).all()), variables, expected))


def test_mixer_names_before_linen(tmp_path):
  source, target = _CASES['vitjax_mixer'] / 'params.npz', tmp_path / 'x.npz'
  old = {}
  for name, array in _npz(source).items():
    name = re.sub('^MixerBlock_', 'Mixer/encoderblock_', name)
    name = re.sub(
        '(token|channel)_mixing/Dense_([01])/(kernel|bias)',
        lambda m: f'{m[1]}_mixing_phase_{int(m[1] == "channel")}/{m[3]}{int(m[2]) + 1}',
        name)
    name = name.replace('pre_head_layer_norm', 'Mixer/encoder_norm')
    old[name.replace('stem', 'embedding')] = array
  assert 'Mixer/encoderblock_0/token_mixing_phase_0/kernel1' in old
  np.savez(target, **old)
  _assert_equal(golden.flatten(load(target)[1]['params']),
                golden.flatten(load(source)[1]['params']))


@pytest.mark.parametrize('variant, name', [
    ('B/1', 'vit_base_patch16_224'), ('H/14', 'vit_huge_patch14_224'),
    ('R50+B/16', 'vit_base_r50_s16_224'), ('mu/16', 'vit_base_patch16_224')])
def test_architectures_that_timm_has(variant, name):
  model = variants.create(variant, 10)
  config = timm_config.describe(model, (2, 2), Interface())[0]
  assert config['architecture'] == name
  assert 'layers' not in config['model_args']


@pytest.mark.parametrize('width, mlp_dim', [
    (1152, 4304), (24, 60), (49, 1), (1408, 6144)])
def test_mlp_ratio_as_timm_rounds_it(width, mlp_dim):
  assert int(width * timm_config.mlp_ratio(width, mlp_dim)) == mlp_dim
