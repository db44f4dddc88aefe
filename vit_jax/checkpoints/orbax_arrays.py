"""The Orbax container: parameters in folders, read one by one or onto devices.

An exported model has one folder for every part of it, such as a block: Orbax copies all
that it is about to write, which would be the whole model otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from vit_jax.checkpoints.weights import Weight
from vit_jax.runtime.errors import UserError, first_line
from vit_jax.runtime.file_errors import unreachable_is_an_error

# What Orbax raises for files that are missing or damaged.
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError)

Share = tuple[int, int]  # (i, n): the i-th of n parts of the files


class OrbaxArrays:
  """The parameters in some Orbax folders."""

  def __init__(self, folders: Sequence[epath.Path], subtree: str = '',
               damage: Callable[[Share], str] = lambda share: '') -> None:
    """`damage` is `integrity.damage` of the files; exports have no checksums."""
    self._folders = [_Folder(path, subtree) for path in folders]
    self.damage = damage

  def weights(self) -> dict[str, Weight]:
    return {name: w for folder in self._folders for name, w in folder.weights().items()}

  def restore(self, likes: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Stored arrays where and as what `likes` are.

    Every process reads what its devices will hold, so no host has a whole model. All
    processes must call it.

    Args:
      likes: by the stored names, with the stored shapes.
    """
    restored = {}
    for folder in self._folders:
      restored |= folder.restore(likes)
    return restored


class _Folder:
  """One Orbax folder, or a subtree of one.

  Its arrays are read as a whole when the first is needed, without those that have been
  restored onto devices.
  """

  def __init__(self, path: epath.Path, subtree: str) -> None:
    self._path, self._subtree = path, subtree
    self._arrays = _metadata(path, subtree)
    self._together = set(self._arrays)
    self._waiting: dict[str, np.ndarray] = {}

  def weights(self) -> dict[str, Weight]:
    return {
        name: Weight(tuple(x.shape), np.dtype(x.dtype),
                     lambda name=name: self._read(name))
        for name, x in self._arrays.items()}

  def restore(self, likes: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    wanted = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
              for name, x in likes.items() if name in self._arrays}
    if not wanted:
      return {}
    self._together -= wanted.keys()
    args = ocp.checkpoint_utils.construct_restore_args(nest(wanted))
    return restore(self._path, self._subtree, wanted, args)

  def _read(self, name: str) -> np.ndarray:
    if name not in self._waiting:
      self._waiting = restore(self._path, self._subtree, {
          n: self._arrays[n] for n in self._together | {name}})
    return self._waiting.pop(name)


def write(folder: epath.Path, weights: Mapping[str, Weight],
          progress: Callable[[int], None] = lambda nbytes: None) -> None:
  """Makes `folder`, with an Orbax folder for every part of the model."""
  folder.mkdir()
  parts: dict[str, list[str]] = {}
  for name in weights:
    parts.setdefault(_part(name), []).append(name)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    for part, names in parts.items():
      arrays = {name: np.ascontiguousarray(weights[name].read()) for name in names}
      checkpointer.save(
          _absolute(folder / part), args=ocp.args.PyTreeSave(nest(arrays)))
      progress(sum(x.nbytes for x in arrays.values()))


def _part(name: str) -> str:
  """The folder of a parameter: a block, a layer, or one array of stacked blocks."""
  names = name.split('/')
  if names[:2] == ['Transformer', 'encoderblock']:
    return '.'.join(names)
  return '.'.join(names[:2]) if names[0] == 'Transformer' else names[0]


def restore(path: epath.PathLike, subtree: str = '',
            wanted: Mapping[str, Any] | None = None, args: Any = None
            ) -> dict[str, Any]:
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
      restored = checkpointer.restore(_absolute(path), args=ocp.args.PyTreeRestore(
          item=item, restore_args=args, partial_restore=True))
    except _DAMAGE as e:
      raise _damaged(path, e) from e
  return flatten(restored[subtree] if subtree else restored)


def _metadata(path: epath.PathLike, subtree: str) -> dict[str, Any]:
  """{flat name: shape and dtype} of an Orbax tree, or of one subtree of it."""
  with unreachable_is_an_error(path), ocp.Checkpointer(
      ocp.PyTreeCheckpointHandler()) as checkpointer:
    try:
      # Without the files that describe the tree there is none.
      tree = checkpointer.metadata(_absolute(path)).item_metadata.tree
      return flatten(tree[subtree] if subtree else tree)
    except _DAMAGE as e:
      raise _damaged(path, e) from e


def _damaged(path: epath.PathLike, e: Exception) -> UserError:
  return UserError(
      f'{path} is not a readable Orbax checkpoint: {first_line(e)}. Export or train it '
      'again.')


def _absolute(path: epath.PathLike) -> epath.Path:
  """Orbax takes no relative paths."""
  path = epath.Path(path)
  return path if '://' in str(path) else path.absolute()


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
  """{'a/b/c': array} of nested dicts."""
  return traverse_util.flatten_dict(nested, sep='/')


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Inverse of `flatten`."""
  return traverse_util.unflatten_dict(flat, sep='/')
