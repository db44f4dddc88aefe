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
  regular_file,
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
from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error

# Settings that ask for a change of the model rather than say what the file is.
CHANGES = ('num_classes', 'representation_size', 'scan', 'dtype', 'param_dtype')

_READERS = {'.npz': npz.read, '.safetensors': safetensors_file.read,
            **dict.fromkeys(('.bin', '.pt', '.pth', '.pth.tar', '.ckpt'),
                            torch_file.read_groups)}
# Weights of Hugging Face and timm in a folder, in the order of preference.
_IN_FOLDER = ('model.safetensors', 'pytorch_model.bin')
_PREPROCESSOR = 'preprocessor_config.json'  # of Hugging Face
_SHARDS = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')
# What wrappers of PyTorch's training put before every name.
_PREFIXES = ('module.', '_orig_mod.', 'model.')


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
    any_architecture: bool = False, averaged: bool = True) -> Iterator[Checkpoint]:
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
    averaged: of a file with raw and averaged weights, read the averaged ones.

  Raises:
    UserError: for a damaged or incomplete checkpoint, one of another architecture,
      and one that more than one model fits.
  """
  # CHANGES don't say what the file holds.
  said = {k: v for k, v in (overrides or {}).items() if k not in CHANGES}
  if str(path).startswith('gs://'):
    storage.configure()  # Before epath uses the URL.
  (name, subtree), hints = _split(path), hints or {}
  with contextlib.ExitStack() as stack:
    contents = dataclasses.replace(
        _read(stack, name, subtree, best, averaged),
        any_architecture=any_architecture)
    try:
      code_base, detected = _recognise(contents, said)
    except AmbiguousError as e:
      if e.field not in hints:
        raise
      said[e.field] = hints[e.field]
      code_base, detected = _recognise(contents, said)
    detected = dataclasses.replace(detected, notes=detected.notes + contents.notes)
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
    return _read(stack, *_split(path), best=True, averaged=True).weights


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


def _read(stack: contextlib.ExitStack, name: str, subtree: str, best: bool,
          averaged: bool) -> Contents:
  """What is at a path; readable until the stack is closed."""
  path = epath.Path(name)
  with unreachable_is_an_error(path):
    return own.read(path, best) or _read_file(stack, path, subtree, averaged)


def _read_file(stack: contextlib.ExitStack, path: epath.Path, subtree: str,
               averaged: bool) -> Contents:
  if path.is_dir():
    return _read_folder(stack, path, averaged)
  if not regular_file.is_file(path):
    raise UserError(
        f'There is no {path}: it is not the work directory of a run, nor a folder or '
        'file of weights. Give an existing checkpoint.')
  weights, notes = _read_weights(stack, path, averaged)
  return Contents(path, 'npz' if path.suffix == '.npz' else 'tensors', weights,
                  json_file.read(path.parent / 'config.json'),
                  json_file.read(path.parent / _PREPROCESSOR), subtree=subtree,
                  notes=notes)


def _read_folder(stack: contextlib.ExitStack, path: epath.Path, averaged: bool
                 ) -> Contents:
  """Of Hugging Face or timm; the weights may be in several files."""
  found = [path / name for name in _IN_FOLDER if regular_file.is_file(path / name)][:1]
  for index in () if found else _SHARDS:
    with nonsense_is_an_error(path, index):
      shards = json_file.read(path / index).get('weight_map', {}).values()
      found = found or [path / name for name in sorted(set(shards))]
  if not found:
    raise UserError(
        f'{path} holds no checkpoint: expected {", ".join(_IN_FOLDER)}, an exported '
        'model (model.json) or the work directory of a run (config.json and '
        'checkpoints).')
  weights: dict[str, Weight] = {}
  notes: tuple[str, ...] = ()
  for file in found:
    part, notes = _read_weights(stack, file, averaged)
    weights |= part
  return Contents(path, 'tensors', weights, json_file.read(path / 'config.json'),
                  json_file.read(path / _PREPROCESSOR), notes=notes)


def _read_weights(stack: contextlib.ExitStack, path: epath.Path, averaged: bool
                  ) -> tuple[dict[str, Weight], tuple[str, ...]]:
  """(weights of a file, which were left aside)."""
  endings = [ending for ending in _READERS if path.name.endswith(ending)]
  if not endings:
    raise UserError(
        f'{path} has no known ending; expected one of {", ".join(_READERS)}, or a '
        'folder.')
  found = stack.enter_context(_READERS[endings[0]](path))
  if endings[0] == '.npz':
    return found, ()
  if endings[0] == '.safetensors':
    return _without_prefixes(path, found), ()
  keys = [key for key in found if (key in torch_file.AVERAGED) == averaged]
  key = (keys or list(found))[0]
  notes = tuple(
      f'{other}: {key} is read; --averaged={"false" if averaged else "true"} chooses '
      'the other' for other in found if other != key)
  return _without_prefixes(path, found[key]), notes


def _without_prefixes(path: epath.Path, weights: dict[str, Weight]
                      ) -> dict[str, Weight]:
  """Without what wrappers put before every name.

  Raises:
    UserError: for files of several models.
  """
  for kind in ('teacher', 'student'):
    if any(name.startswith((f'{kind}.', f'{kind}_')) for name in weights):
      raise UserError(
          f'{path} holds a {kind} beside other parts. Give one model alone, without '
          f"the prefix: torch.save({{k.removeprefix('{kind}.'): v for k, v in "
          f"state.items() if k.startswith('{kind}.')}}, FILE).")
  while weights and (shared := next(
      (x for x in _PREFIXES if all(n.startswith(x) for n in weights)), '')):
    weights = {name.removeprefix(shared): w for name, w in weights.items()}
  return weights
