"""Exported models and work directories: this project's own checkpoints.

An exported model is a folder with `model.json` (class, options, image size) and one
Orbax folder under `params/` for every part of the model, such as a block: Orbax copies
all that it is about to write, which would be the whole model otherwise.
"""

import json
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from vit_jax.checkpoints.detect import Detected, grid_of, image_size_of
from vit_jax.checkpoints.store import Store
from vit_jax.checkpoints.weights import Weight
from vit_jax.models import variants
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import unreachable_is_an_error
from vit_jax.training import workdir as workdir_lib

_MODEL, _PARAMS, _FORMAT = 'model.json', 'params', 'vit_jax model 1'


def is_model(path: epath.Path) -> bool:
  return (path / _MODEL).is_file()


def is_workdir(path: epath.Path) -> bool:
  return (path / 'config.json').is_file() and (path / 'checkpoints').is_dir()


def read_model(path: epath.Path) -> tuple[Detected, dict[str, Weight], 'Own']:
  """The model of an export, its parameters, and what only `Own` can do."""
  try:
    values = json.loads((path / _MODEL).read_text())
    if values['format'] != _FORMAT:
      raise ValueError(f'its format is {values["format"]!r}')
    detected = _detected(
        values['class'], values['options'], tuple(values['image_size']))
    parts = [_Part(folder) for folder in sorted((path / _PARAMS).iterdir())]
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise UserError(
        f'{path} is not a readable exported model: {e}. Expected {_MODEL} with '
        f'format {_FORMAT!r} and an Orbax folder {_PARAMS}.') from e
  own = Own(parts)
  return detected, own.weights(), own


def write_model(folder: epath.Path, model, grid, weights: dict[str, Weight],
                progress=lambda nbytes: None):
  """Fills an empty folder; `weights` have the names of the model's own layout."""
  (folder / _MODEL).write_text(json.dumps({
      'format': _FORMAT, 'class': type(model).__name__, 'options': model.settings(),
      'image_size': image_size_of(model, grid)}, indent=2) + '\n')
  (folder / _PARAMS).mkdir()
  parts = {}
  for name in weights:
    parts.setdefault(_part(name), []).append(name)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    for part, names in parts.items():
      arrays = {name: np.ascontiguousarray(weights[name].read()) for name in names}
      checkpointer.save(
          folder / _PARAMS / part, args=ocp.args.PyTreeSave(nest(arrays)))
      progress(sum(x.nbytes for x in arrays.values()))


def _part(name):
  """The folder of a parameter: a block, a layer, or one array of stacked blocks."""
  names = name.split('/')
  if names[:2] == ['Transformer', 'encoderblock']:
    return '.'.join(names)
  return '.'.join(names[:2]) if names[0] == 'Transformer' else names[0]


def read_workdir(
    path: epath.Path, *, best: bool) -> tuple[Detected, dict[str, Weight], 'Own']:
  """As `read_model`, of a run's best or newest checkpoint."""
  config = workdir_lib.read_config(path)
  num_classes = workdir_lib.read_dataset(path).num_classes
  model = variants.from_section(config.model, num_classes, jax.default_backend())
  store = Store(path, config.checkpoint, read_only=True)
  try:
    step = (store.best() if best else None) or store.latest()
    if step is None:
      raise UserError(
          f'{path} holds no checkpoint yet; give the work directory of a run that has '
          'saved one.')
    own = Own([_Part(epath.Path(store.path(step)) / 'state',
                     'ema' if config.ema_decay > 0 else 'params')],
              lambda share: store.damage(step, share))
  except (OSError, ValueError, KeyError) as e:
    raise UserError(
        f'{path} holds a checkpoint that cannot be read: {e}. Give another one, or '
        'train it again.') from e
  finally:
    store.close()
  detected = _detected(
      type(model).__name__, model.settings(), config.data.image_size)
  return detected, own.weights(), own


def _detected(class_name, options, image_size):
  options = dict(options)
  variant, num_classes = variants.OF_CLASS[class_name], options.pop('num_classes')
  detected = Detected('vit_jax', options, num_classes, None, variant=variant)
  model = detected.create({})
  if model.options.patch_size:
    detected.grid = grid_of(model, image_size)
  if model.options.position_embedding == 'learned' and detected.grid:
    detected.tokens = detected.grid[0] * detected.grid[1]
  return detected


class Own:
  """What this project's own checkpoints can do beside handing out their weights."""

  def __init__(self, parts: list, damage: Callable = lambda share: ''):
    """`damage` is `integrity.damage` of the files; exports have no checksums."""
    self._parts, self.damage = parts, damage

  def weights(self) -> dict[str, Weight]:
    return {name: w for part in self._parts for name, w in part.weights().items()}

  def restore(self, likes: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Stored arrays where and as what `likes` are.

    Every process reads what its devices will hold, so no host has a whole model. All
    processes must call it.

    Args:
      likes: by the stored names, with the stored shapes.
    """
    restored = {}
    for part in self._parts:
      restored |= part.restore(likes)
    return restored


class _Part:
  """One Orbax folder, or a subtree of one.

  Its arrays are read as a whole when the first is needed, without those that have been
  restored onto devices.
  """

  def __init__(self, folder, subtree: str = ''):
    self._folder, self._subtree = folder, subtree
    self._arrays = _metadata(folder, subtree)
    self._together = set(self._arrays)
    self._waiting = {}

  def weights(self) -> dict[str, Weight]:
    return {
        name: Weight(tuple(x.shape), np.dtype(x.dtype),
                     lambda name=name: self._read(name))
        for name, x in self._arrays.items()}

  def restore(self, likes: dict[str, jax.Array]) -> dict[str, jax.Array]:
    wanted = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
              for name, x in likes.items() if name in self._arrays}
    if not wanted:
      return {}
    self._together -= wanted.keys()
    args = ocp.checkpoint_utils.construct_restore_args(nest(wanted))
    return _restore(self._folder, self._subtree, wanted, args)

  def _read(self, name):
    if name not in self._waiting:
      self._waiting = _restore(self._folder, self._subtree, {
          n: self._arrays[n] for n in self._together | {name}})
    return self._waiting.pop(name)


def _metadata(path, subtree: str = '') -> dict:
  """{flat name: shape and dtype} of an Orbax tree, or of one subtree of it."""
  with unreachable_is_an_error(path), ocp.Checkpointer(
      ocp.PyTreeCheckpointHandler()) as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
  return flatten(tree[subtree] if subtree else tree)


def _restore(path, subtree: str = '', wanted: dict | None = None, args=None) -> dict:
  """{flat name: array} of an Orbax tree, or of one subtree of it.

  Args:
    path: its folder.
    subtree: '' or the first part of the stored names.
    wanted: {flat name: shape and dtype}; None: everything.
    args: nested restore arguments of `wanted`; None: NumPy arrays.
  """
  item = nest(_metadata(path, subtree) if wanted is None else wanted)
  if args is None:
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
  if subtree:
    item, args = {subtree: item}, {subtree: args}
  with unreachable_is_an_error(path), ocp.Checkpointer(
      ocp.PyTreeCheckpointHandler()) as checkpointer:
    try:
      restored = checkpointer.restore(path, args=ocp.args.PyTreeRestore(
          item=item, restore_args=args, partial_restore=True))
    except (OSError, ValueError, KeyError) as e:
      raise UserError(
          f'{path} is not a readable Orbax checkpoint: {e}. Export or train it '
          'again.') from e
  return flatten(restored[subtree] if subtree else restored)


def flatten(nested: dict) -> dict:
  """{'a/b/c': array} of nested dicts."""
  return traverse_util.flatten_dict(nested, sep='/')


def nest(flat: dict) -> dict:
  """Inverse of `flatten`."""
  return traverse_util.unflatten_dict(flat, sep='/')
