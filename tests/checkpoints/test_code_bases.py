"""What the formats of other code bases can hold, today and once models have more."""

import dataclasses

import pytest

from vit_jax.checkpoints import pretrained
from vit_jax.checkpoints.code_bases import code_base
from vit_jax.checkpoints.code_bases.table import CODE_BASES, FORMATS
from vit_jax.checkpoints.open_checkpoint import shapes_of
from vit_jax.config.sections import ModelSection
from vit_jax.config.settings import setting
from vit_jax.models import variants
from vit_jax.runtime.errors import UserError

_OPTIONS = {field.name for field in dataclasses.fields(ModelSection)}
_LATER = dataclasses.make_dataclass(
    'Later', [('window', int, setting(0, 'Later.')),
              ('rotation', str, setting('none', 'Later.'))],
    bases=(ModelSection,), frozen=True)
_VIT = {'patch_size': 8, 'width': 32, 'depth': 2, 'mlp_dim': 64, 'num_heads': 2}


def _with_later_options(model, **values):
  """The model if `ModelSection` had two more options."""
  options = {name: getattr(model.options, name) for name in _OPTIONS}
  return model.clone(options=_LATER(**options, **values))


def _models(holds):
  """One model of every class that a format can hold."""
  return [model for model in (
      variants.create('', 3, **_VIT), variants.create('Mixer-S/32', 3),
      variants.create('R26x1', 3)) if type(model) in holds]


@pytest.mark.parametrize('name', [n for n in CODE_BASES if n != 'vit_jax'])
def test_options_that_are_added_later_are_refused(name):
  base = CODE_BASES[name]
  models = _models(base.holds)
  assert models
  for model in models:
    base.links_to_write(_with_later_options(model), {})
    for values, words in (
        ({'window': 7}, 'has no place for window. Convert'),
        ({'rotation': 'axial'}, "has no place for rotation 'axial'. Convert"),
        ({'window': 7, 'rotation': 'axial'}, "for window, rotation 'axial'. Convert")):
      with pytest.raises(UserError, match=words):
        base.links_to_write(_with_later_options(model, **values), {})


@pytest.mark.parametrize('name', [n for n, base in CODE_BASES.items() if base.strict])
def test_nor_can_such_files_be_read_with_them(name):
  base = CODE_BASES[name]
  for model in _models(base.holds or {}):
    with pytest.raises(UserError, match='has no place for window'):
      base.links_to_read(_with_later_options(model, window=7), {})


def test_our_own_format_holds_everything():
  model = variants.create('', 3, **_VIT)
  shapes = shapes_of(model, (2, 2))
  links = FORMATS['orbax'].links_to_write(_with_later_options(model, window=7), shapes)
  assert {name for link in links for name in link.ours} == shapes.keys()


def test_options_that_are_added_later_are_compared():
  a = variants.create('', 3, **_VIT)
  b = a.with_options(gelu='exact', scan=True, dropout=0.5, dtype='bfloat16')
  assert pretrained.computed_differently(a, b) == {'gelu': ('tanh', 'exact')}
  a, b = _with_later_options(a), _with_later_options(b, window=7)
  assert pretrained.computed_differently(a, b) == {
      'gelu': ('tanh', 'exact'), 'window': (0, 7)}


@pytest.mark.parametrize('name', [n for n in CODE_BASES if n != 'vit_jax'])
def test_another_kind_of_model_is_refused(name):
  base = CODE_BASES[name]
  others = [m for m in (variants.create('Mixer-S/32', 3), variants.create('R26x1', 3))
            if type(m) not in base.holds]
  for model in others:
    with pytest.raises(UserError, match=f'cannot hold a {type(model).__name__};'):
      base.links_to_write(model, {})


def test_only_options_that_exist_are_mentioned():
  mentioned = set()
  for base in CODE_BASES.values():
    for holds in (base.holds or {}).values():
      mentioned |= holds.keys()
  assert mentioned <= _OPTIONS


def test_no_format_speaks_of_options_without_effect():
  for base in CODE_BASES.values():
    for holds in (base.holds or {}).values():
      assert not holds.keys() & code_base.WITHOUT_EFFECT


def test_every_way_to_resize_positions_has_a_name_of_its_own():
  ways = {}
  for base in CODE_BASES.values():
    for name, matrix in base.position_resizes.items():
      assert ways.setdefault(name, matrix) is matrix
  assert [base.position_resize for base in FORMATS.values()] == [
      'original', 'original', 'hf', 'timm', 'original']
