"""Which values the options of a model may take, and the errors that say so."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any, NoReturn, cast

from vit_jax.config.sections import ModelSection
from vit_jax.config.settings import declared
from vit_jax.models import resnet, vit
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError


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
  options = model.options
  for field in dataclasses.fields(ModelSection):
    if field.name in model.OPTIONS:
      _check_option(
          field.name, cast(type, field.type), getattr(options, field.name))
  if not isinstance(model.num_classes, int) or model.num_classes < 0:
    _refuse('num_classes', model.num_classes, 'must be a whole number, 0 for none')
  if len(options.patch_size) != 2 and 'patch_size' in model.OPTIONS:
    _refuse('patch_size', options.patch_size, 'takes (height, width)')
  if options.resnet_width % resnet.GROUPS:
    _refuse('resnet_width', options.resnet_width,
            f'must be a multiple of {resnet.GROUPS}, the groups of GroupNorm')
  if isinstance(model, vit.ViT):
    _check_vit(options)


def _check_option(name: str, kind: type, value: Any) -> None:
  known = declared(ModelSection)[name]
  if kind is float and type(value) is int:
    kind = int
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    _refuse(name, value, f'must be of type {kind.__name__}')
  if known.choices and value not in known.choices:
    _refuse(name, value, f'must be one of {", ".join(known.choices)}')
  if known.rule and not known.rule.allows(value):
    _refuse(name, value, known.rule.expected)
  if known.size and not _are_positive(cast(tuple, value)):
    _refuse(name, value, 'takes positive whole numbers, (height, width)')
  # Settled by now: 0 is no size, except that there need be no ResNet.
  if known.from_variant and value == 0 and name != 'resnet_width':
    _refuse(name, value, 'must be positive')


def _are_positive(sides: Iterable[Any]) -> bool:
  return all(type(side) is int and side > 0 for side in sides)


def _check_vit(options: ModelSection) -> None:
  """Sizes that have to fit together."""
  if options.width % options.num_heads:
    _refuse('width', options.width, f'must be a multiple of num_heads = '
            f'{options.num_heads}; change one of them')
  if options.width % 4 and options.position_embedding == 'sincos2d':
    _refuse('width', options.width, "must be a multiple of 4 for position_embedding "
            "'sincos2d'; change it, or use 'learned'")
  if options.resnet_blocks and not options.resnet_width:
    _refuse('resnet_blocks', options.resnet_blocks, 'must be () without a ResNet; set '
            'resnet_width, usually 64, to have one')


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
  raise UserError(f'model {name} is {value!r}; it {expected}.')
