"""What a file says of its model; what it doesn't say must be given.

Models are recognised by names and shapes, helped by a config.json beside the file.
Where more than one model fits, a UserError lists the candidates.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from etils import epath

from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.orbax_arrays import OrbaxArrays
from vit_jax.checkpoints.weights import Weight
from vit_jax.models import variants, vit
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError

# 'tensors' are safetensors and files of PyTorch, 'vit_jax' our own checkpoints.
Container = Literal['npz', 'tensors', 'vit_jax']


class AmbiguousError(UserError):
  """More than one model fits; `field` is the setting that would decide."""

  def __init__(self, field: str, message: str) -> None:
    super().__init__(message)
    self.field = field


@dataclasses.dataclass(frozen=True)
class Contents:
  """What lies at a path, whatever code base it comes from."""
  path: epath.Path
  container: Container
  weights: dict[str, Weight]  # as stored
  config: dict[str, Any]  # config.json beside them, or our description; {}: none
  # preprocessor_config.json beside them; {}: none
  preprocessor: dict[str, Any] = dataclasses.field(default_factory=dict)
  any_architecture: bool = False  # whether to read names that were not compared
  subtree: str = ''  # which part of an npz was asked for
  notes: tuple[str, ...] = ()  # what of it was left aside
  arrays: OrbaxArrays | None = None  # of our own checkpoints, behind `weights`


@dataclasses.dataclass(frozen=True)
class Detected:
  """The model of a file, as arguments of `variants.create`, and its parameters."""
  options: dict[str, Any]
  num_classes: int
  tokens: int | None  # entries of the position grid; None: fixed positions
  weights: dict[str, Weight]  # by the names of the code base's links
  grid: tuple[int, int] | None = None  # (h, w), if the file or its config says so
  variant: str = ''  # of a model that is no ViT
  notes: tuple[str, ...] = ()  # what of the file was left aside
  interface: Interface = Interface()

  def create(self, overrides: Mapping[str, Any]) -> Model:
    """The model, with explicit settings in place of what was found."""
    options = {**self.options, **overrides}
    num_classes = options.pop('num_classes', self.num_classes)
    return variants.create(self.variant, num_classes, **options)


class Shapes:
  """Names and shapes of a file that complains helpfully."""

  def __init__(self, path: epath.Path, weights: Mapping[str, Weight]) -> None:
    self.path = path
    self.shapes = {name: weight.shape for name, weight in weights.items()}

  def __contains__(self, name: str) -> bool:
    return name in self.shapes

  def __iter__(self) -> Iterator[str]:
    return iter(self.shapes)

  def get(self, name: str, ndim: int) -> tuple[int, ...]:
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


def heads_of_size(path: epath.Path, width: int, depth: int, mlp_dim: int) -> int:
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


def size_name(model: Model) -> str:
  """'B' of a ViT with the published sizes of that name, '' of all other models."""
  options = model.options
  sizes = (options.width, options.depth, options.mlp_dim, options.num_heads)
  names = [name for name, row in variants.SIZES.items() if row == sizes]
  return names[0] if names and isinstance(model, vit.ViT) else ''


@contextlib.contextmanager
def nonsense_is_an_error(path: epath.Path, file: str = 'config.json') -> Iterator[None]:
  """Makes a UserError of what nonsense in a JSON `file` causes in the block.

  Weights have been checked when their config is read: what fails is the config.
  """
  try:
    yield
  except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as e:
    raise UserError(
        f'{path}: its {file} has a value that makes no sense: {e}. Mend or remove '
        'it.') from e


def checked_heads(options: dict[str, Any]) -> dict[str, Any]:
  """`options`, whose number of heads may be what a config.json says."""
  heads = options['num_heads']
  if not isinstance(heads, int) or heads < 1:
    raise ValueError(f'the number of heads is {heads!r}')
  return options


def grid_in_config(image_size: Any, stride: Sequence[int]) -> tuple[int, int] | None:
  """(h, w) of the image size in a config.json, if it says one."""
  if not image_size:
    return None
  if isinstance(image_size, int):
    image_size = (image_size, image_size)
  h, w = (size // s for size, s in zip(image_size, stride, strict=True))
  return h, w
