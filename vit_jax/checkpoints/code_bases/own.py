"""This project's own checkpoints: exported models, and work directories of runs.

An exported model is a folder with `model.json` (class, options, image size) and its
parameters under `params/`. Both kinds say everything of their model.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath

from vit_jax import config as config_lib
from vit_jax import objectives
from vit_jax.checkpoints import integrity, json_file, orbax_arrays, regular_file
from vit_jax.checkpoints.code_bases import linen, links
from vit_jax.checkpoints.code_bases.code_base import CodeBase, ParameterShapes
from vit_jax.checkpoints.code_bases.interface import Interface
from vit_jax.checkpoints.code_bases.links import Link
from vit_jax.checkpoints.code_bases.recognition import Contents, Detected
from vit_jax.checkpoints.orbax_arrays import OrbaxArrays
from vit_jax.checkpoints.positions import Grid, grid_of, image_size_of
from vit_jax.checkpoints.store import Store
from vit_jax.checkpoints.weights import Weight
from vit_jax.config.sections import PreprocessSection
from vit_jax.models import variants
from vit_jax.models.model import Model
from vit_jax.runtime.errors import UserError
from vit_jax.training import workdir as workdir_lib

_CONTAINER = 'vit_jax'
_MODEL, _PARAMS, _FORMAT = 'model.json', 'params', 'vit_jax model 1'


def read(path: epath.Path, best: bool) -> Contents | None:
  """What is in an exported model or a work directory; None for all other paths.

  Args:
    path: any file or folder.
    best: of a work directory, the best checkpoint rather than the newest.
  """
  if not path.is_dir():
    return None
  if regular_file.is_file(path / _MODEL):
    return _read_model(path)
  if regular_file.is_file(path / 'config.json') and (path / 'checkpoints').is_dir():
    return _read_workdir(path, best)
  return None


def _read_model(path: epath.Path) -> Contents:
  try:
    values = json_file.read(path / _MODEL)
    if values['format'] != _FORMAT:
      raise ValueError(f'its format is {values["format"]!r}')
    _detected(values, {})  # raises what is wrong with it
    arrays = OrbaxArrays(
        sorted(x for x in (path / _PARAMS).iterdir() if x.is_dir()),
        # Not those of earlier versions, nor those on object stores.
        damage=(lambda share: integrity.damage(path / _PARAMS, share)
                ) if values.get('sealed') else (lambda share: ''))
  except (OSError, ValueError, KeyError, TypeError, AttributeError,
          RecursionError) as e:
    raise UserError(
        f'{path} is not a readable exported model: {e}. Expected {_MODEL} with '
        f'format {_FORMAT!r} and an Orbax folder {_PARAMS}.') from e
  return Contents(path, _CONTAINER, arrays.weights(), values, arrays=arrays)


def _read_workdir(path: epath.Path, best: bool) -> Contents:
  config = workdir_lib.read_config(str(path))
  dataset = workdir_lib.read_dataset(str(path))
  outputs = objectives.find(config.objective).num_outputs(config, dataset.num_classes)
  model = variants.from_section(config.model, outputs, jax.default_backend())
  interface = Interface(dataset.class_names, config.data.eval)
  store = Store(path, config.checkpoint, read_only=True)
  try:
    step = (store.best() if best else None) or store.latest()
    if step is None:
      raise UserError(
          f'{path} holds no checkpoint yet; give the work directory of a run that has '
          'saved one.')
    arrays = OrbaxArrays(
        [epath.Path(store.path(step)) / 'state'],
        'ema' if config.ema_decay > 0 else 'params',
        lambda share: store.damage(step, share))
  except (OSError, ValueError, KeyError) as e:
    raise UserError(
        f'{path} holds a checkpoint that cannot be read: {e}. Give another one, or '
        'train it again.') from e
  finally:
    store.close()
  return Contents(path, _CONTAINER, arrays.weights(),
                  _description(model, config.data.image_size, interface), arrays=arrays)


def recognise(contents: Contents, overrides: Mapping[str, Any]) -> Detected | None:
  if contents.container != _CONTAINER:
    return None
  return _detected(contents.config, contents.weights)


def _description(model: Model, image_size: tuple[int, int], interface: Interface
                 ) -> dict[str, Any]:
  """What `model.json` says."""
  preprocess = interface.preprocess
  return {'format': _FORMAT, 'class': type(model).__name__,
          'options': model.settings(), 'image_size': image_size,
          'class_names': interface.class_names,
          'preprocess': None if preprocess is None else {
              name: value for name, value in dataclasses.asdict(preprocess).items()
              if value != getattr(PreprocessSection, name)}}


def _interface(description: Mapping[str, Any]) -> Interface:
  names, preprocess = description.get('class_names'), description.get('preprocess')
  return Interface(tuple(names or ()), None if preprocess is None else (
      config_lib.from_dict({'data': {'eval': preprocess}}).data.eval))


def _detected(description: Mapping[str, Any], weights: dict[str, Weight]) -> Detected:
  """The model that `_description` described."""
  options = dict(description['options'])
  variant = variants.OF_CLASS[description['class']]
  num_classes = options.pop('num_classes')
  model = variants.create(variant, num_classes, **options)
  grid = tokens = None
  if model.options.patch_size:
    grid = grid_of(model, tuple(description['image_size']))
    if model.options.position_embedding == 'learned':
      tokens = grid[0] * grid[1]
  return Detected(options, num_classes, tokens, weights, grid, variant,
                  interface=_interface(description))


def _links(model: Model, shapes: ParameterShapes) -> list[Link]:
  """Every name is its own."""
  result = [links.same(name, name) for name in shapes]
  return linen.stacked(result) if model.options.scan else result


def _write(folder: epath.Path, model: Model, grid: Grid | None, interface: Interface,
           weights: dict[str, Weight], progress: Callable[[int], None]) -> list[str]:
  folder.mkdir()
  description = _description(model, image_size_of(model, grid), interface)
  orbax_arrays.write(folder / _PARAMS, weights, progress)
  if '://' not in str(folder):
    integrity.seal(folder / _PARAMS)
    description['sealed'] = True
  (folder / _MODEL).write_text(json.dumps(description, indent=2) + '\n')
  return []


CODE_BASE = CodeBase(
    'vit_jax', recognise, _links, _write, linen.POSITION_RESIZES, holds=None,
    format='orbax', holds_pixels=True)
