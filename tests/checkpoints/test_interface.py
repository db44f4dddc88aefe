"""Names of classes and the preparation of images travel with the weights."""

import json

import golden
import pytest

from vit_jax.checkpoints import pretrained
from vit_jax.checkpoints.code_bases import interface
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.convert import convert
from vit_jax.checkpoints.load import fitted
from vit_jax.checkpoints.open_checkpoint import open_checkpoint
from vit_jax.config.sections import PreprocessSection

_NAMES = ('cat', 'dog', 'emu')
_PLAIN = PreprocessSection(antialias=True)
_SMALL = PreprocessSection(resize_small=73, crop='central', antialias=True)
_BOTH = PreprocessSection(
    resize=(73, 73), crop='central', method='bicubic', antialias=True)


def _found(path, **settings):
  with fitted(path, **settings) as (_, _, _, report):
    return report.interface


def test_hugging_face_to_timm_and_back(tmp_path):
  for source, *formats in (('hf_pixels', 'orbax', 'timm', 'hf'),
                           ('timm_pixels', 'orbax', 'hf', 'timm')):
    path = golden.FOLDER / source
    expected = _found(path)
    assert expected.class_names == _NAMES
    for to in formats:
      target = tmp_path / f'{source}_{to}'
      lines = convert(path, target, to, verification=False)
      assert not [line for line in lines if 'without' in line]
      assert _found(target).class_names == _NAMES
      path = target
    assert interface.processor(_found(path), (8, 8)) == interface.processor(
        expected, (8, 8))
  config = json.loads((tmp_path / 'hf_pixels_hf' / 'config.json').read_text())
  assert config['label2id'] == {'cat': 0, 'dog': 1, 'emu': 2}


def test_formats_without_a_place_say_so(tmp_path):
  lines = convert(golden.FOLDER / 'hf_pixels', tmp_path / 'x.npz', 'npz',
                  verification=False)
  assert any('without: names of the classes' in line for line in lines)


def test_another_head_has_no_names():
  path = golden.FOLDER / 'hf_pixels'
  assert _found(path, num_classes=4).class_names == ()
  assert _found(path, head='reset').class_names == ()


def test_numbered_labels_are_no_names():
  config = {'id2label': {'0': 'LABEL_0', '1': 'LABEL_1'}}
  assert interface.of_hugging_face(config, {}) == Interface()
  ten = {str(i): f'{i}.' for i in range(11)}
  assert interface.of_hugging_face({'id2label': ten}, {}).class_names[2] == '2.'


@pytest.mark.parametrize('preprocess, said', [
    (_PLAIN, {'crop_mode': 'squash', 'interpolation': 'bilinear'}),
    (_SMALL, {'crop_mode': 'center', 'interpolation': 'bilinear'}),
    (_BOTH, {'crop_mode': 'squash', 'interpolation': 'bicubic'})])
def test_what_both_libraries_can_say(preprocess, said):
  size, meant = (64, 64), Interface(preprocess=preprocess)
  config, missing = interface.pretrained_cfg(meant, size)
  assert not missing and config.items() >= said.items()
  back = interface.of_timm({'pretrained_cfg': config | {'input_size': [3, *size]}})
  assert interface.pretrained_cfg(back, size) == (config, [])
  config, missing = interface.processor(meant, size)
  assert not missing
  assert interface.of_hugging_face({}, config) == meant


@pytest.mark.parametrize('preprocess, word', [
    (PreprocessSection(), 'antialiasing'),
    (PreprocessSection(resize_small=99, antialias=True), 'more than one resize'),
    (PreprocessSection(crop='central', antialias=True), 'a crop without a resize')])
def test_what_neither_can_say_is_told(preprocess, word):
  meant = Interface(preprocess=preprocess)
  for said in (interface.processor, interface.pretrained_cfg):
    assert any(word in line for line in said(meant, (64, 64))[1])


@pytest.mark.parametrize('names, head, kept', [
    (_NAMES, 'auto', True), ((), 'auto', True), (('cat', 'dog', 'yak'), 'auto', False),
    (('cat', 'dog', 'yak'), 'keep', True), (('cat', 'dog', 'yak'), 'reset', False)])
def test_a_head_of_other_classes_starts_anew(names, head, kept):
  with open_checkpoint(golden.FOLDER / 'hf_pixels') as checkpoint:
    weights, report = pretrained.adapt(
        checkpoint, checkpoint.model, checkpoint.grid, head=head, class_names=names)
  assert ('head/kernel' in weights) == kept
  words = "its class 2 is 'emu' there and 'yak' here"
  assert (words in str(report)) == (names[2:] == ('yak',) and head == 'auto')
  assert [words in line for line in report.warnings] == [True] * (
      names[2:] == ('yak',) and head == 'keep')
