"""Tables path -> chosen, factor; and errors for patterns without effect."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax.runtime import errors
from vit_jax.training import masks

BLOCK = 'Transformer/encoderblock_0'
PATHS = [
  'cls',
  'embedding/bias',
  'embedding/kernel',
  'Transformer/posembed_input/pos_embedding',
  f'{BLOCK}/LayerNorm_0/scale',
  f'{BLOCK}/MlpBlock_0/Dense_0/kernel',
  'head/bias',
  'head/kernel',
]


def _tree(values):
  tree = {}
  for path, value in values.items():
    *parents, name = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = value
  return tree


PARAMS = _tree({path: jnp.zeros(2) for path in PATHS})


def test_paths():
  assert masks.paths(PARAMS) == _tree({path: path for path in PATHS})


@pytest.mark.parametrize('pattern,chosen', [
  ('.*/kernel', {'embedding/kernel', PATHS[5], 'head/kernel'}),
  ('head/.*', {'head/bias', 'head/kernel'}),
  ('cls', {'cls'}),
  ('(?!head/).*', set(PATHS) - {'head/bias', 'head/kernel'}),
  (r'Transformer/encoderblock_\d+/.*', set(PATHS[4:6])),
  ('.*', set(PATHS)),
])
def test_path_mask(pattern, chosen):
  expected = _tree({path: path in chosen for path in PATHS})
  assert masks.path_mask(PARAMS, pattern) == expected


def test_pattern_must_match_the_whole_path():
  with pytest.raises(errors.UserError):
    masks.path_mask(PARAMS, 'kernel')
  with pytest.raises(errors.UserError):
    masks.path_mask(PARAMS, 'head')


def test_path_factors_first_match_wins():
  pairs = (('head/kernel', 10), ('head/.*', 2.0), (f'{BLOCK}/.*', 0))
  expected = dict.fromkeys(PATHS, 1.0) | {
    'head/kernel': 10.0, 'head/bias': 2.0, PATHS[4]: 0.0, PATHS[5]: 0.0}
  assert masks.path_factors(PARAMS, pairs) == _tree(expected)


def test_no_pairs():
  assert set(jax.tree.leaves(masks.path_factors(PARAMS, ()))) == {1.0}


def test_abstract_params():
  abstract = jax.eval_shape(lambda: PARAMS)
  assert masks.path_mask(abstract, '.*/bias') == masks.path_mask(PARAMS, '.*/bias')


@pytest.mark.parametrize('choose', [
  lambda pattern: masks.path_mask(PARAMS, pattern),
  lambda pattern: masks.path_factors(PARAMS, (('cls', 0.5), (pattern, 0.5))),
])
def test_useless_patterns(choose):
  with pytest.raises(errors.UserError, match='none of the 8 parameters') as caught:
    choose('.*/kernle')
  assert "'.*/kernle'" in str(caught.value)
  assert sum(path in str(caught.value).split() for path in PATHS) >= 3
  with pytest.raises(errors.UserError, match='not a regular expression'):
    choose('head/(')


@pytest.mark.parametrize('pairs', [
  (('head/.*', 2.0), ('head/bias', 0.0)),
  (('head/.*', 2.0), ('head/.*', 3.0)),
])
def test_shadowed_pattern(pairs):
  with pytest.raises(errors.UserError, match='first match wins'):
    masks.path_factors(PARAMS, pairs)
