"""Parameters chosen by regular expressions over their paths.

A path is the parameter's place in the tree, joined by '/', for example
'Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel'. A pattern must match
the whole path. A pattern without any effect is an error: it is nearly always a
spelling mistake, and the run would look fine and be wrong.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax

from vit_jax.runtime import errors

_EXAMPLES = 6


def paths(params: Any) -> Any:
  """The tree with every leaf replaced by its path."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jax.tree_util.keystr(path, simple=True, separator='/'),
    params)


def path_mask(params: Any, pattern: str) -> Any:
  """True where `pattern` matches the path, in the structure of `params`."""
  regex = _compile(pattern)
  mask = jax.tree.map(lambda path: bool(regex.fullmatch(path)), paths(params))
  if not any(jax.tree.leaves(mask)):
    raise errors.UserError(_no_match(pattern, params))
  return mask


def path_factors(params: Any, pairs: Sequence[tuple[str, float]]) -> Any:
  """Factor of the first (pattern, factor) that matches the path, else 1.0."""
  regexes = [(_compile(pattern), float(factor)) for pattern, factor in pairs]
  winners = set()

  def factor_of(path: str) -> float:
    for index, (regex, factor) in enumerate(regexes):
      if regex.fullmatch(path):
        winners.add(index)
        return factor
    return 1.0

  factors = jax.tree.map(factor_of, paths(params))
  for index, (regex, _) in enumerate(regexes):
    if index not in winners:
      path_mask(params, regex.pattern)
      raise errors.UserError(
        f'Pattern {regex.pattern!r} has no effect: an earlier pattern matches '
        'each of its parameters, and the first match wins. Move it to the '
        'front or remove it. The patterns in order: '
        f'{", ".join(repr(pattern) for pattern, _ in pairs)}.')
  return factors


def _compile(pattern: str) -> re.Pattern:
  try:
    return re.compile(pattern)
  except re.error as error:
    raise errors.UserError(
      f'{pattern!r} is not a regular expression: {error}.') from error


def _no_match(pattern: str, params: Any) -> str:
  every = jax.tree.leaves(paths(params))
  stride = max(1, -(-len(every) // _EXAMPLES))
  return (
    f'Pattern {pattern!r} matches none of the {len(every)} parameters. It must '
    'match a whole path; some of the paths are:\n  '
    + '\n  '.join(every[::stride]))
