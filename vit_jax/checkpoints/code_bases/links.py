"""From the parameters of another code base to ours and back, name by name.

A code base gives, for one particular model, the complete list of links between its
parameters and ours. Both directions, the check that nothing is missing or left over,
and all shapes follow from that one list. "Ours" are flat names such as
'Transformer/encoderblock_0/LayerNorm_0/scale', blocks unrolled.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints.weights import BFLOAT16, Weight
from vit_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Link:
  """Some of their parameters that hold the same numbers as some of ours.

  `read` maps their arrays to a tuple of ours, `write` is its inverse. If `iterates`,
  `write` takes one iterator, so that our arrays need not be in memory together.
  """
  theirs: tuple[str, ...]
  ours: tuple[str, ...]
  read: Callable[..., tuple[np.ndarray, ...]]
  write: Callable[..., tuple[np.ndarray, ...]]
  iterates: bool = False


def same(theirs: str, ours: str) -> Link:
  return Link((theirs,), (ours,), lambda x: (x,), lambda x: (x,))


def one(theirs: str, ours: str, read: Callable[[np.ndarray], np.ndarray],
        write: Callable[[np.ndarray], np.ndarray]) -> Link:
  """A link of one array with one array."""
  return Link((theirs,), (ours,), lambda x: (read(x),), lambda x: (write(x),))


def stack(theirs: str, ours: Iterable[str]) -> Link:
  """One array with a leading depth dim there, one per block here."""
  ours = tuple(ours)
  return Link((theirs,), ours, lambda x: tuple(x),
              lambda arrays: (_stack(arrays, len(ours)),), iterates=True)


def to_ours(links: Sequence[Link], weights: Mapping[str, Weight],
            expected: Mapping[str, tuple[int, ...]], path: epath.PathLike
            ) -> dict[str, Weight]:
  """{our name: Weight} of a file.

  Args:
    links: of the file's code base and model.
    weights: all parameters of the file.
    expected: shapes of the model's parameters by our names.
    path: of the file, for messages.

  Raises:
    UserError: for names that are missing or left over, and for wrong shapes.
  """
  needed = {name for link in links for name in link.theirs}
  _check_names(path, needed - weights.keys(), weights.keys() - needed)
  _check_dtypes(path, {name: weights[name].dtype for name in needed})
  ours = _apply(links, weights, path, read=True)
  wrong = [
      f'  {name}: {ours[name].shape} in the file, {shape} in the model'
      for name, shape in expected.items()
      if name in ours and ours[name].shape != shape]
  if wrong:
    raise UserError(
        f'{path} has arrays of other shapes than its model needs:\n'
        f'{shorten(wrong)}\nThe file is damaged, or a setting such as num_heads or '
        'patch_size was given wrongly.')
  # Both sides come from one model: a difference would be a defect of a table.
  assert ours.keys() == expected.keys(), ours.keys() ^ expected.keys()
  return ours


def to_theirs(links: Sequence[Link], weights: Mapping[str, Weight]
              ) -> dict[str, Weight]:
  """{their name: Weight}, inverse of `to_ours`."""
  used = {name for link in links for name in link.ours}
  assert used == weights.keys(), used ^ weights.keys()
  return _apply(links, weights, 'the model', read=False)


def shorten(lines: list[str]) -> str:
  """The first lines, and how many more there are."""
  more = [f'  ... and {len(lines) - 8} more'] if len(lines) > 8 else []
  return '\n'.join(lines[:8] + more)


def _check_names(path: epath.PathLike, missing: set[str], left_over: set[str]) -> None:
  lines = [f'  missing: {name}' for name in sorted(missing)]
  lines = lines[:4] + ([f'  ... and {len(lines) - 4} more missing'] * (len(lines) > 4))
  others = [f'  left over: {name}' for name in sorted(left_over)]
  lines += others[:4] + (
      [f'  ... and {len(others) - 4} more left over'] * (len(others) > 4))
  if lines:
    raise UserError(
        f'{path} does not hold exactly the parameters of its model:\n'
        + '\n'.join(lines) + '\nExpected a complete Vision Transformer and nothing '
        'else; `vit_jax convert FILE --list` shows what the file holds.')


def _check_dtypes(path: epath.PathLike, dtypes: Mapping[str, np.dtype]) -> None:
  wrong = [f'  {name}: {dtype}' for name, dtype in sorted(dtypes.items())
           if dtype.kind != 'f' and dtype != BFLOAT16]
  if wrong:
    raise UserError(
        f'{path} has parameters that are no floating point numbers:\n'
        f'{shorten(wrong)}\nQuantised weights are not supported; give the original '
        'ones.')


def _apply(links: Sequence[Link], weights: Mapping[str, Weight], path: epath.PathLike,
           *, read: bool) -> dict[str, Weight]:
  result = {}
  for link in links:
    inputs, outputs = (link.theirs, link.ours) if read else (link.ours, link.theirs)
    group = _Group(link.read if read else link.write, [weights[n] for n in inputs],
                   iterates=link.iterates and not read)
    try:
      shapes = group.shapes()
    except (ValueError, IndexError) as e:
      described = ', '.join(f'{n} {weights[n].shape}' for n in inputs)
      raise UserError(
          f'{path}: {described} cannot become {", ".join(outputs)}: {e}. The file '
          'is damaged, or a setting such as num_heads was given wrongly.') from e
    for i, (name, shape) in enumerate(zip(outputs, shapes, strict=True)):
      result[name] = Weight(
          shape, group.inputs[0].dtype, lambda group=group, i=i: group.output(i))
  return result


class _Group:
  """The arrays that one link makes; what belongs together is read together."""

  def __init__(self, function: Callable[..., tuple[np.ndarray, ...]],
               inputs: Sequence[Weight], *, iterates: bool) -> None:
    self.inputs = inputs
    self._function: Callable[[Iterator[Any]], tuple[np.ndarray, ...]] = (
        function if iterates else lambda arrays: function(*arrays))
    self._waiting: dict[int, np.ndarray] = {}

  def shapes(self) -> list[tuple[int, ...]]:
    # Bytes that share one element: costs no reading and little memory.
    probes = (np.broadcast_to(np.int8(0), w.shape) for w in self.inputs)
    return [tuple(x.shape) for x in self._function(probes)]

  def output(self, i: int) -> np.ndarray:
    # An array is handed out once, so that none outlives its use; asking again
    # reads again.
    if i not in self._waiting:
      arrays = (w.read() for w in self.inputs)
      self._waiting = dict(enumerate(self._function(arrays)))
    return self._waiting.pop(i)


def _stack(arrays: Iterable[np.ndarray], depth: int) -> np.ndarray:
  arrays = iter(arrays)
  first = next(arrays)
  stacked = _aligned((depth, *first.shape), first.dtype)
  stacked[0] = first
  del first
  for i, array in enumerate(arrays, 1):
    stacked[i] = array
  return stacked


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  # At addresses like these JAX takes an array over on a CPU instead of copying it,
  # and stacked arrays are a third of a model.
  nbytes = int(np.prod(shape)) * dtype.itemsize
  memory = np.empty(nbytes + 64, np.uint8)
  start = -memory.ctypes.data % 64
  return memory[start:start + nbytes].view(dtype).reshape(shape)
