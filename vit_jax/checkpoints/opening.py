"""Opening any supported checkpoint: its model, and its parameters by our names."""

import contextlib
import dataclasses
import functools
import json
import re
from typing import Any

import jax
from etils import epath

from vit_jax.checkpoints import (
  augreg,
  detect,
  detect_jax,
  detect_torch,
  jax_names,
  names,
  npz,
  orbax_model,
  safetensors_file,
  torch_file,
)
from vit_jax.checkpoints.detect import Detected, Shapes
from vit_jax.checkpoints.weights import Weight
from vit_jax.checkpoints.worlds import WORLDS, World
from vit_jax.models import layout
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error

# Settings that ask for a change of the model rather than say what the file is.
CHANGES = ('num_classes', 'representation_size', 'scan', 'dtype', 'param_dtype')

# Weights of Hugging Face and timm in a folder, in the order of preference.
_IN_FOLDER = ('model.safetensors', 'pytorch_model.bin')
_SHARDS = 'model.safetensors.index.json'


@dataclasses.dataclass
class Checkpoint:
  """An open checkpoint; the weights can be read until it is closed."""
  path: str
  world: World
  detected: Detected
  model: Any
  grid: tuple[int, int] | None  # (h, w) of the positions; None: any
  weights: dict[str, Weight]  # by our names, blocks unrolled
  stored: dict[str, Weight]  # as in the file
  notes: list[str]  # what of the file was left aside
  own: orbax_model.Own | None = None  # of this project's checkpoints


@contextlib.contextmanager
def opened(path, overrides: dict | None = None, *, image_size=None,
           position_grid=None, hints: dict | None = None, best=True):
  """A `Checkpoint` of a file or folder, see `load`.

  Args:
    path: npz (with ':subtree' after it, if need be), safetensors, bin, a folder of
      Hugging Face or timm, an exported model or a work directory.
    overrides: settings of the model that the file can't say.
    image_size: (height, width) of the images, or None.
    position_grid: (h, w) of the file's positions, or None: as it says.
    hints: settings to fall back on where the file leaves a choice.
    best: of a work directory, the best checkpoint rather than the newest.
  """
  # CHANGES don't say what the file holds.
  said = {k: v for k, v in (overrides or {}).items() if k not in CHANGES}
  path, subtree = split_subtree(augreg.resolve(str(path)))
  with contextlib.ExitStack() as stack:
    try:
      read = _read(stack, path, subtree, said, best)
    except detect.AmbiguousError as e:
      if e.field not in (hints or {}):
        raise
      said[e.field] = hints[e.field]
      read = _read(stack, path, subtree, said, best)
    detected, weights, stored, notes, own = read
    if position_grid:
      detected.grid = tuple(position_grid)
    model = detected.create(said)
    grid = detect.settle_grid(path, model, detected, image_size)
    world = WORLDS[detected.world]
    expected = shapes_of(model, grid)
    ours = names.to_ours(world.read(model, expected), weights, expected, path)
    yield Checkpoint(path, world, detected, model, grid, ours, stored, notes, own)


def list_stored(path) -> dict[str, Weight]:
  """Names, shapes and dtypes in a file, whatever it holds."""
  path = epath.Path(split_subtree(augreg.resolve(str(path)))[0])
  with contextlib.ExitStack() as stack, unreachable_is_an_error(path):
    ours = _read_ours(path, best=True)
    return ours[1] if ours else _read_file(stack, path)[0]


def split_subtree(path: str) -> tuple[str, str]:
  """'file.npz:img' -> ('file.npz', 'img')."""
  match = re.fullmatch(r'(.*\.npz):([^:]*)', path)
  return (match[1], match[2].strip('/')) if match else (path, '')


def shapes_of(model, grid) -> dict[str, tuple]:
  """{our name: shape} of a model's parameters, blocks unrolled."""
  return dict(_shapes_of(model.with_options(scan=False, dtype='float32'), grid))


@functools.lru_cache(maxsize=16)  # every conversion asks several times
def _shapes_of(model, grid):
  image_size = detect.image_size_of(model, grid)
  params = jax.eval_shape(
      lambda: layout.init(model, jax.random.key(0), image_size))
  return {name: x.shape for name, x in orbax_model.flatten(params).items()}


def _read(stack, path, subtree, overrides, best):
  """(detected, weights by their names, stored weights, notes, own)."""
  path = epath.Path(path)
  with unreachable_is_an_error(path):
    ours = _read_ours(path, best)
    stored, config = (ours[1], {}) if ours else _read_file(stack, path)
  if ours:
    return ours[0], stored, stored, [], ours[2]
  notes = []
  if path.suffix == '.npz':
    weights, notes = _root(path, stored, subtree)
    weights = _current(path, weights)
    detected = detect_jax.detect(Shapes(path, weights), overrides)
  else:
    weights, shapes, detected = stored, Shapes(path, stored), None
    with _nonsense_is_an_error(path, 'config.json'):
      detected = detect_torch.detect(shapes, config, overrides)
  if detected is None:
    some = ', '.join(list(weights)[:4])
    raise UserError(
        f'{path} is a checkpoint of another architecture: it holds {some}, ... '
        'Expected a ViT of vision_transformer, big_vision, Hugging Face or timm, an '
        'MLP-Mixer or a ResNet of BiT.')
  return detected, weights, stored, notes, None


def _read_ours(path, best):
  """(detected, weights, own) of this project's formats, None for all others."""
  if not path.is_dir():
    return None
  if orbax_model.is_model(path):
    return orbax_model.read_model(path)
  if orbax_model.is_workdir(path):
    return orbax_model.read_workdir(path, best=best)
  return None


def _read_file(stack, path):
  """(weights as stored, config.json beside them)."""
  if path.is_dir():
    folder = path
    files = [folder / name for name in _IN_FOLDER if (folder / name).is_file()]
    if not files and (folder / _SHARDS).is_file():
      with _nonsense_is_an_error(path, _SHARDS):
        index = _json(folder / _SHARDS).get('weight_map', {})
        files = [folder / name for name in sorted(set(index.values()))]
      weights = {}
      for file in files:
        weights |= stack.enter_context(safetensors_file.read(file))
      return weights, _json(folder / 'config.json')
    if not files:
      raise UserError(
          f'{path} holds no checkpoint: expected {", ".join(_IN_FOLDER)}, an exported '
          'model (model.json) or the work directory of a run (config.json and '
          'checkpoints).')
    path = files[0]
  elif not path.is_file():
    raise UserError(
        f'There is no {path}: it is not the work directory of a run, nor a folder or '
        'file of weights. Give an existing checkpoint.')
  readers = {'.npz': npz.read, '.safetensors': safetensors_file.read,
             '.bin': torch_file.read, '.pt': torch_file.read, '.pth': torch_file.read}
  if path.suffix not in readers:
    raise UserError(
        f'{path} has no known ending; expected one of {", ".join(readers)}, or a '
        'folder.')
  return (stack.enter_context(readers[path.suffix](path)),
          _json(path.parent / 'config.json'))


@contextlib.contextmanager
def _nonsense_is_an_error(path, file):
  # Weights have been checked when their config is read: what fails is the config.
  try:
    yield
  except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as e:
    raise UserError(
        f'{path}: its {file} has a value that makes no sense: {e}. Mend or remove '
        'it.') from e


def _json(path):
  if not path.is_file():
    return {}
  try:
    values = json.loads(path.read_text())
  except (OSError, ValueError) as e:
    raise UserError(f'Cannot read {path}: {e}. Mend or remove it.') from e
  if not isinstance(values, dict):
    raise UserError(f'{path} holds no JSON object. Mend or remove it.')
  return values


def _root(path, stored, subtree):
  """The parameters of one model among what a training run stored.

  Newer files have them under 'params', older ones under 'opt/target', published ones
  at the root. A two-tower file has an image tower 'img' there.
  """
  for root in ('params/', 'opt/target/', ''):
    if any(name.startswith(root) for name in stored):
      break
  weights = {name[len(root):]: w for name, w in stored.items()
             if name.startswith(root) and (root or not name.startswith(
                 ('opt/', 'chrono/')))}
  if not subtree and any(name.startswith('img/') for name in weights):
    subtree = 'img'
  if subtree:
    weights = {name[len(subtree) + 1:]: w for name, w in weights.items()
               if name.startswith(subtree + '/')}
    if not weights:
      towers = sorted({name.split('/')[0] for name in stored})
      raise UserError(
          f'{path} has nothing under {subtree!r}; it has {", ".join(towers)}.')
  used = {id(w) for w in weights.values()}
  aside = sorted({'/'.join(name.split('/')[:2])
                  for name, w in stored.items() if id(w) not in used})
  where = root + (subtree + '/' if subtree else '')
  notes = [f'Only {where or "the root"} was read, and not: {", ".join(aside)}'
           ] if aside else []
  return weights, notes


def _current(path, weights):
  old_mixer = any(name.startswith('Mixer/') for name in weights)
  rename = jax_names.current_mixer if old_mixer else jax_names.current
  renamed = {}
  for name, weight in weights.items():
    new = rename(name)
    if new in renamed:
      raise UserError(
          f'{path} holds {new} under two names; expected the names of one release.')
    renamed[new] = weight
  return renamed
