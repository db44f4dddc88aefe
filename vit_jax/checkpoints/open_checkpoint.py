"""Any supported checkpoint, opened: its model, and its parameters by our names."""

import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

from vit_jax.checkpoints import (
  augreg,
  json_file,
  npz,
  orbax_arrays,
  safetensors_file,
  torch_file,
)
from vit_jax.checkpoints.code_bases import links, own
from vit_jax.checkpoints.code_bases.code_base import CodeBase
from vit_jax.checkpoints.code_bases.recognition import (
  AmbiguousError,
  Contents,
  Detected,
  nonsense_is_an_error,
)
from vit_jax.checkpoints.code_bases.table import CODE_BASES
from vit_jax.checkpoints.positions import Grid, grid_of, image_size_of
from vit_jax.checkpoints.weights import Weight
from vit_jax.config.sections import ModelSection
from vit_jax.models import layout
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error

# Settings that ask for a change of the model rather than say what the file is.
CHANGES = ('num_classes', 'representation_size', 'scan', 'dtype', 'param_dtype')

_READERS = {'.npz': npz.read, '.safetensors': safetensors_file.read,
            '.bin': torch_file.read, '.pt': torch_file.read, '.pth': torch_file.read}
# Weights of Hugging Face and timm in a folder, in the order of preference.
_IN_FOLDER = ('model.safetensors', 'pytorch_model.bin')
_PREPROCESSOR = 'preprocessor_config.json'  # of Hugging Face
_SHARDS = 'model.safetensors.index.json'


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """An open checkpoint; the weights can be read until it is closed."""
  path: str
  code_base: CodeBase
  detected: Detected
  model: Model
  grid: Grid | None  # (h, w) of the positions; None: any
  weights: dict[str, Weight]  # by our names, blocks unrolled
  contents: Contents


@contextlib.contextmanager
def open_checkpoint(
    path: epath.PathLike, overrides: Mapping[str, Any] | None = None, *,
    image_size: tuple[int, int] | None = None, position_grid: Grid | None = None,
    hints: Mapping[str, Any] | None = None, best: bool = True,
    any_architecture: bool = False) -> Iterator[Checkpoint]:
  """A `Checkpoint` of a file or folder, see `load`.

  Args:
    path: npz (with ':subtree' after it, if need be), safetensors, bin, a folder of
      Hugging Face or timm, an exported model or a work directory.
    overrides: settings of the model that the file can't say.
    image_size: (height, width) of the images, or None.
    position_grid: (h, w) of the file's positions, or None: as it says.
    hints: settings to fall back on where the file leaves a choice.
    best: of a work directory, the best checkpoint rather than the newest.
    any_architecture: read timm's architectures that were not compared with ours, too.

  Raises:
    UserError: for a damaged or incomplete checkpoint, one of another architecture,
      and one that more than one model fits.
  """
  # CHANGES don't say what the file holds.
  said = {k: v for k, v in (overrides or {}).items() if k not in CHANGES}
  (name, subtree), hints = _split(path), hints or {}
  with contextlib.ExitStack() as stack:
    contents = dataclasses.replace(
        _read(stack, name, subtree, best), any_architecture=any_architecture)
    try:
      code_base, detected = _recognise(contents, said)
    except AmbiguousError as e:
      if e.field not in hints:
        raise
      said[e.field] = hints[e.field]
      code_base, detected = _recognise(contents, said)
    if position_grid:
      detected = dataclasses.replace(detected, grid=tuple(position_grid))
    model = detected.create(said)
    grid = _settled_grid(name, model, detected, image_size)
    expected = shapes_of(model, grid)
    ours = links.to_ours(
        code_base.links_to_read(model, expected), detected.weights, expected, name)
    yield Checkpoint(name, code_base, detected, model, grid, ours, contents)


def list_stored(path: epath.PathLike) -> dict[str, Weight]:
  """Names, shapes and dtypes in a file, whatever it holds."""
  with contextlib.ExitStack() as stack:
    return _read(stack, *_split(path), best=True).weights


def shapes_of(model: Model, grid: Grid | None) -> dict[str, tuple[int, ...]]:
  """{our name: shape} of a model's parameters, blocks unrolled."""
  model = model.with_options(scan=False, dtype='float32')
  return dict(_shapes_of(type(model), model.options, model.num_classes, grid))


@functools.lru_cache(maxsize=16)  # every conversion asks several times
def _shapes_of(kind: type[Model], options: ModelSection, num_classes: int,
               grid: Grid | None) -> dict[str, tuple[int, ...]]:
  model = kind(options, num_classes)
  image_size = image_size_of(model, grid)
  params = jax.eval_shape(
      lambda: layout.init(model, jax.random.key(0), image_size))
  return {name: x.shape for name, x in orbax_arrays.flatten(params).items()}


def _recognise(contents: Contents, said: Mapping[str, Any]
               ) -> tuple[CodeBase, Detected]:
  for code_base in CODE_BASES.values():
    detected = code_base.recognise(contents, said)
    if detected is not None:
      return code_base, detected
  some = ', '.join(list(contents.weights)[:4])
  raise UserError(
      f'{contents.path} is a checkpoint of another architecture: it holds {some}, ... '
      'Expected a ViT of vision_transformer, big_vision, Hugging Face or timm, an '
      'MLP-Mixer or a ResNet of BiT.')


def _settled_grid(path: str, model: Model, detected: Detected,
                  image_size: tuple[int, int] | None) -> Grid | None:
  """(h, w) of the file's positions; None for fixed positions.

  If the file only says the number of positions, they are a square if they can be:
  published ones are. An explicit image size decides if no square fits.
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
      'x'.join(map(str, image_size_of(model, (h, detected.tokens // h))))
      for h in range(1, detected.tokens + 1) if detected.tokens % h == 0]
  raise AmbiguousError(
      'image_size', f'{path} has {detected.tokens} positions, which is no square: the '
      f'image size can be {", ".join(sizes)} (height x width). Give '
      '--image_size=HEIGHTxWIDTH (in Python image_size=(height, width)).')


def _split(path: epath.PathLike) -> tuple[str, str]:
  """'file.npz:img' -> ('file.npz', 'img'); names of published models become paths."""
  path = augreg.resolve(str(path))
  match = re.fullmatch(r'(.*\.npz):([^:]*)', path)
  return (match[1], match[2].strip('/')) if match else (path, '')


def _read(stack: contextlib.ExitStack, name: str, subtree: str, best: bool) -> Contents:
  """What is at a path; readable until the stack is closed."""
  path = epath.Path(name)
  with unreachable_is_an_error(path):
    return own.read(path, best) or _read_file(stack, path, subtree)


def _read_file(stack: contextlib.ExitStack, path: epath.Path, subtree: str
               ) -> Contents:
  if path.is_dir():
    return _read_folder(stack, path)
  if not path.is_file():
    raise UserError(
        f'There is no {path}: it is not the work directory of a run, nor a folder or '
        'file of weights. Give an existing checkpoint.')
  if path.suffix not in _READERS:
    raise UserError(
        f'{path} has no known ending; expected one of {", ".join(_READERS)}, or a '
        'folder.')
  weights = stack.enter_context(_READERS[path.suffix](path))
  return Contents(path, 'npz' if path.suffix == '.npz' else 'tensors', weights,
                  json_file.read(path.parent / 'config.json'),
                  json_file.read(path.parent / _PREPROCESSOR), subtree=subtree)


def _read_folder(stack: contextlib.ExitStack, path: epath.Path) -> Contents:
  """Of Hugging Face or timm; the weights may be in several safetensors files."""
  whole = [path / name for name in _IN_FOLDER if (path / name).is_file()]
  if whole:
    weights = stack.enter_context(_READERS[whole[0].suffix](whole[0]))
  elif (path / _SHARDS).is_file():
    with nonsense_is_an_error(path, _SHARDS):
      index = json_file.read(path / _SHARDS).get('weight_map', {})
      shards = [path / name for name in sorted(set(index.values()))]
    weights = {}
    for shard in shards:
      weights |= stack.enter_context(safetensors_file.read(shard))
  else:
    raise UserError(
        f'{path} holds no checkpoint: expected {", ".join(_IN_FOLDER)}, an exported '
        'model (model.json) or the work directory of a run (config.json and '
        'checkpoints).')
  return Contents(path, 'tensors', weights, json_file.read(path / 'config.json'),
                  json_file.read(path / _PREPROCESSOR))

