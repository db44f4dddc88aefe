"""What a weight file says of its model; what it doesn't say must be given.

Detection goes by names and shapes, helped by a config.json beside the file. Where
more than one model fits, a UserError lists the candidates.
"""

import dataclasses
import math

from vit_jax.models import variants, vit
from vit_jax.runtime.errors import UserError


class AmbiguousError(UserError):
  """More than one model fits; `field` is the setting that would decide."""

  def __init__(self, field: str, message: str):
    super().__init__(message)
    self.field = field


@dataclasses.dataclass
class Detected:
  """The model of a file, as arguments of `variants.create`."""
  world: str  # key of `worlds.WORLDS`
  options: dict
  num_classes: int
  tokens: int | None  # entries of the position grid; None: fixed positions
  grid: tuple[int, int] | None = None  # (h, w), if the file or its config says so
  variant: str = ''  # of a model that is no ViT

  def create(self, overrides: dict):
    """The model, with explicit settings in place of what was found."""
    options = self.options | overrides
    num_classes = options.pop('num_classes', self.num_classes)
    return variants.create(self.variant, num_classes, **options)


class Shapes:
  """Names and shapes of a file that complains helpfully."""

  def __init__(self, path, weights):
    self.path = path
    self.shapes = {name: weight.shape for name, weight in weights.items()}

  def __contains__(self, name):
    return name in self.shapes

  def __iter__(self):
    return iter(self.shapes)

  def get(self, name: str, ndim: int) -> tuple:
    """The shape of a parameter that must be there with `ndim` dims."""
    if name not in self.shapes:
      raise UserError(
          f'{self.path} has no {name}, so it is no complete checkpoint of a model '
          'known here. `vit_jax convert FILE --list` shows what it holds.')
    shape = self.shapes[name]
    if len(shape) != ndim or 0 in shape:
      raise UserError(
          f'{self.path}: {name} has shape {shape}; expected {ndim} dims. The file is '
          'damaged, or belongs to another architecture.')
    return shape

  def count(self, prefix: str) -> int:
    """How many of prefix0, prefix1, ... there are."""
    found = {name[len(prefix):].split('/')[0].split('.')[0]
             for name in self.shapes if name.startswith(prefix)}
    return len({x for x in found if x.isdigit()})


def heads_of_size(path, width: int, depth: int, mlp_dim: int) -> int:
  """Number of heads of the only published model of that size."""
  known = {heads for w, d, m, heads in variants.SIZES.values()
           if (w, d, m) == (width, depth, mlp_dim)}
  if len(known) == 1:
    return known.pop()
  candidates = [n for n in range(1, width + 1) if width % n == 0 and width // n >= 8]
  raise AmbiguousError(
      'num_heads', f'{path} does not say how many attention heads its model has '
      f'(width {width}, depth {depth}, MLP {mlp_dim}): num_heads can be '
      f'{", ".join(map(str, candidates))}. Give --num_heads=... (in Python '
      'num_heads=...), or put the config.json of the model beside the file.')


def settle_grid(path, model, detected: Detected, image_size) -> tuple | None:
  """(h, w) of the file's positions; None for fixed positions.

  Args:
    path: of the file.
    model: its model.
    detected: what the file says. If it only says the number of positions, they are
      a square if they can be: published ones are.
    image_size: explicit (height, width), or None. It decides if no square fits.
  """
  if detected.tokens is None:
    return detected.grid or (grid_of(model, image_size) if image_size else None)
  if detected.grid and math.prod(detected.grid) == detected.tokens:
    return detected.grid
  side = math.isqrt(detected.tokens)
  if side * side == detected.tokens:
    return side, side
  if image_size:
    grid = grid_of(model, image_size)
    if math.prod(grid) == detected.tokens:
      return grid
  sizes = [
      'x'.join(str(g * s) for g, s in zip((h, detected.tokens // h), model.strides,
                                         strict=True))
      for h in range(1, detected.tokens + 1) if detected.tokens % h == 0]
  raise AmbiguousError(
      'image_size', f'{path} has {detected.tokens} positions, which is no square: the '
      f'image size can be {", ".join(sizes)} (height x width). Give '
      '--image_size=HEIGHTxWIDTH (in Python image_size=(height, width)).')


def grid_of(model, image_size) -> tuple[int, int]:
  """(h, w) tokens of an image."""
  for size, stride in zip(image_size, model.strides, strict=True):
    if size < 1 or size % stride:
      raise UserError(
          f'image_size {tuple(image_size)} is not a multiple of {stride} pixels, the '
          "size of one token of the file's model. Give another size.")
  return tuple(
      size // stride for size, stride in zip(image_size, model.strides, strict=True))


def image_size_of(model, grid) -> tuple[int, int]:
  """(height, width) of images with that grid; any small one if there is no grid."""
  if grid is None:
    # ResNets and fixed positions take every size: two tokens a side, or enough
    # pixels for the strides of a ResNet.
    grid = (2, 2) if model.options.patch_size else (64, 64)
  h, w = (g * s for g, s in zip(grid, model.strides, strict=True))
  return h, w


def describe(model) -> str:
  """'B/16' if the sizes are published ones, else the sizes."""
  if not isinstance(model, vit.ViT):
    return type(model).__name__
  options = model.options
  sizes = (options.width, options.depth, options.mlp_dim, options.num_heads)
  names = [name for name, row in variants.SIZES.items() if row == sizes]
  patch = model.strides
  patch = str(patch[0]) if patch[0] == patch[1] else 'x'.join(map(str, patch))
  if names:
    return f'{names[0]}/{patch}'
  return (f'width {sizes[0]}, depth {sizes[1]}, MLP {sizes[2]}, {sizes[3]} heads, '
          f'{patch} pixels a patch')
