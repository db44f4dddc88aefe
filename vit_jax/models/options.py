"""Which values the options of a model may take, and the errors that say so."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from vit_jax.config.sections import ModelSection
from vit_jax.config.settings import declared
from vit_jax.models import resnet, vit
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

_SIZES = ('width', 'depth', 'mlp_dim', 'token_mlp_dim', 'num_heads')
_COUNTS = ('num_classes', 'representation_size', 'registers', 'resnet_width')
_RATES = ('dropout', 'attention_dropout', 'stochastic_depth')
_EPS_OR_DEFAULT = ('group_norm_eps', 'std_conv_eps')
_SWITCHES = ('pool_norm', 'patch_bias', 'pre_norm', 'qkv_bias', 'qk_norm', 'scan')


def check_names(cls: type[Model], given: Iterable[str]) -> None:
  """Raises a UserError for an option that the class doesn't have."""
  known = (*cls.OPTIONS, 'num_classes')
  for name in given:
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1)
      hint = f': did you mean {near[0]!r}?' if near else '; leave it out.'
      raise UserError(
          f'A {cls.__name__} has no option {name!r}{hint} '
          f'All options: {", ".join(known)}.')


def check_values(model: Model) -> None:
  """Raises a UserError for the first option that is impossible."""
  settings = model.settings()

  def require(
      options: Iterable[str], allows: Callable[[Any], bool], expected: str) -> None:
    for name in options:
      if name in settings and not allows(settings[name]):
        raise UserError(f'model {name} is {settings[name]!r}; expected {expected}.')

  for name, setting in declared(ModelSection).items():
    if setting.choices:
      require([name], setting.choices.__contains__,
              f'one of {", ".join(setting.choices)}')
  require(_SIZES, _is_whole(1), 'a positive whole number')
  require(_COUNTS, _is_whole(0), 'a whole number, 0 for none')
  require(_SWITCHES, lambda x: isinstance(x, bool), 'True or False')
  require(_RATES, lambda x: 0 <= x < 1, 'a rate in [0, 1)')
  require(['layer_scale'], lambda x: x >= 0, 'a positive number, 0 for none')
  require(['layer_norm_eps'], lambda x: x > 0, 'a positive number')
  require(_EPS_OR_DEFAULT, lambda x: x >= 0,
          'a positive number, or 0 for that of the original code')
  require(['patch_size'], lambda x: len(x) == 2 and all(map(_is_whole(1), x)),
          'two positive whole numbers, (height, width)')
  require(['resnet_blocks'], lambda x: all(map(_is_whole(1), x)),
          'positive whole numbers, the units of every block')
  require(['resnet_width'], lambda x: x % resnet.GROUPS == 0,
          f'a multiple of {resnet.GROUPS}, the groups of GroupNorm')
  if isinstance(model, vit.ViT):
    _check_vit(model.options, require)


def _check_vit(options: ModelSection, require: Callable[..., None]) -> None:
  """Sizes that have to fit together."""
  require(['width'], lambda x: x % options.num_heads == 0,
          f'a multiple of num_heads = {options.num_heads}; change one of them')
  sincos = options.position_embedding == 'sincos2d'
  require(['width'], lambda x: x % 4 == 0 or not sincos,
          "a multiple of 4 for position_embedding 'sincos2d'; change it, or use "
          "'learned'")
  require(['resnet_blocks'], lambda x: not x or options.resnet_width,
          '() without a ResNet; set resnet_width, usually 64, to have one')


def _is_whole(least: int) -> Callable[[Any], bool]:
  return lambda value: (
      isinstance(value, int) and not isinstance(value, bool) and value >= least)
