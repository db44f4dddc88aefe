"""What a code base is to us, and what its checkpoints can hold.

What a format can hold is a list of what is allowed: an option of models that a format
doesn't mention must have its default. So options that are added to `ModelSection` are
refused by every format until it says what becomes of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.recognition import Contents, Detected
from vit_jax.checkpoints.weights import Weight
from vit_jax.config.sections import ModelSection
from vit_jax.config.settings import declared
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

ParameterShapes = Mapping[str, tuple[int, ...]]  # by our names
Links = Callable[[Model, ParameterShapes], list[Link]]
# (path, model, grid of positions, interface, weights by their names, progress in bytes)
# -> what of the interface the format cannot say
Writer = Callable[[epath.Path, Model, tuple[int, int] | None, Interface,
                   dict[str, Weight], Callable[[int], None]], list[str]]
# (new size, old size) of a dim of the position grid -> matrix of that shape.
Interpolation = Callable[[int, int], np.ndarray]
# Of one option: the values that a format can hold, or a function of the model that
# says what of it the format has no place for, '' if it can hold all.
Held = tuple[Any, ...] | Callable[[Model], str]

# Options that change neither the parameters nor, rounding aside, what an evaluated
# model computes from them.
WITHOUT_EFFECT = frozenset(name for name, known in declared(ModelSection).items()
                           if known.effect == 'none')

# What a refused value is called, if not by its option.
_WORDS = {
    'patch_bias': 'a patch embedding without bias',
    'position_embedding': 'position_embedding {}',
    'resnet_width': 'a ResNet before the Transformer',
}


def ANY(model: Model) -> str:
  """Every value of an option."""
  del model
  return ''


# Read off the shapes of the parameters.
SIZES: Mapping[str, Held] = dict.fromkeys(
    ('patch_size', 'width', 'depth', 'mlp_dim', 'num_heads'), ANY)
# What formats don't say of how a model computes: readers have their own way, and a
# conversion prints how far the outputs differ then.
UNSAID: Mapping[str, Held] = dict.fromkeys(
    ('gelu', 'layer_norm_eps', 'group_norm_eps', 'std_conv_eps', 'std_conv_eps_form',
     'pixel_mean', 'pixel_std'), ANY)
# Blocks as in the first Vision Transformer.
PLAIN: Mapping[str, Held] = {
    'registers': (0,), 'qk_norm': (False,), 'layer_scale': (0,), 'pool_norm': (False,),
    'pre_norm': (False,), 'patch_bias': (True,)}


@dataclasses.dataclass(frozen=True)
class CodeBase:
  """How one code base stores its models."""
  title: str
  # The model in a checkpoint, given explicit settings; None: it is another one's.
  recognise: Callable[[Contents, Mapping[str, Any]], Detected | None]
  links: Links  # to read the names that `recognise` accepts
  write: Writer
  # By name: how it resizes positions, and other ways of the same code base.
  position_resizes: Mapping[str, Interpolation]
  # Class of a model -> option -> what of it the format can hold. None: every model.
  holds: Mapping[type[Model], Mapping[str, Held]] | None
  format: str = ''  # what --to calls it; '': it is never written
  suffix: str = ''  # of a file that is written; '': a folder
  written_links: Links | None = None  # to write, if other names than `links` reads
  full_title: str = ''  # `title` in messages on what it can't hold
  alternatives: str = 'orbax'  # formats that can hold more
  # Whether it says the pixel statistics; otherwise they become part of the weights.
  holds_pixels: bool = False
  # Whether links are for what the format holds alone. Others follow any model's names.
  strict: bool = True

  @property
  def position_resize(self) -> str:
    return next(iter(self.position_resizes))

  def links_to_read(self, model: Model, shapes: ParameterShapes) -> list[Link]:
    """Links of a model; a UserError if settings ask for what such files can't hold."""
    if self.strict:
      self.check_holds(model)
    return self.links(model, shapes)

  def links_to_write(self, model: Model, shapes: ParameterShapes) -> list[Link]:
    """Links of a model; a UserError if the format can't hold it."""
    self.check_holds(model)
    return (self.written_links or self.links)(model, shapes)

  def check_holds(self, model: Model) -> None:
    """Raises UserError, naming all parts of the model that have no place."""
    if self.holds is None:
      return
    title, kind = self.full_title or self.title, type(model)
    if kind not in self.holds:
      raise UserError(f'{title} cannot hold a {kind.__name__}; convert to another '
                      'format, such as orbax.')
    parts = without_place(model, self.holds[kind])
    if parts:
      raise UserError(f'{title} has no place for {", ".join(parts)}. Convert to a '
                      f'format that has, such as {self.alternatives}.')


def without_place(model: Model, holds: Mapping[str, Held]) -> list[str]:
  """The parts of a model that a format can't hold."""
  defaults = {field.name: (field.default,)
              for field in dataclasses.fields(model.options)
              if field.name not in WITHOUT_EFFECT and field.name not in holds}
  parts = []
  for option, held in {**holds, **defaults}.items():
    value = getattr(model.options, option)
    if callable(held):
      parts.append(held(model))
    elif value not in held:
      words = f"{option} '{value}'" if isinstance(value, str) else option
      parts.append(_WORDS.get(option, words).format(value))
  return [part for part in parts if part]
