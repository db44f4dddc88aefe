"""`pytorch_model.bin` and other files of torch.save, read without running their pickle.

The file is a zip of raw arrays and one pickle that says which array is which. It is
unpickled with stand-ins for the few names that a dictionary of tensors consists of, and
refuses all others: nothing else is imported or called, so a malicious file can do
nothing. What it can cost is bounded before, by walking its instructions.
"""

import contextlib
import dataclasses
import io
import pickle
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Never

import numpy as np
from etils import epath

from vit_jax.checkpoints import npz
from vit_jax.checkpoints.weights import BFLOAT16, Weight
from vit_jax.runtime.file_errors import damage_is_an_error

_DTYPES = {
    'DoubleStorage': np.dtype('float64'), 'FloatStorage': np.dtype('float32'),
    'HalfStorage': np.dtype('float16'), 'BFloat16Storage': BFLOAT16,
    'LongStorage': np.dtype('int64'), 'IntStorage': np.dtype('int32'),
    'ShortStorage': np.dtype('int16'), 'CharStorage': np.dtype('int8'),
    'ByteStorage': np.dtype('uint8'), 'BoolStorage': np.dtype('bool'),
}

# The instructions that dictionaries of tensors and plain values consist of.
_TUPLES = ('TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3')
_INSTRUCTIONS = frozenset((*_TUPLES, *'''
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE EMPTY_LIST APPEND APPENDS
    EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID'''.split()))
# Pickles of state dicts have a few kilobytes to a few megabytes, and some 30
# instructions per tensor.
_MAX_BYTES = 64 << 20
_MAX_INSTRUCTIONS = 500_000
_MAX_DIMS = 32

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, OSError,
    ValueError, IndexError, KeyError, TypeError, AttributeError, RuntimeError,
    NotImplementedError)


# Keys of averaged weights in files of training scripts, and of others.
AVERAGED = ('state_dict_ema', 'model_ema')
_RAW = ('state_dict', 'model')


@contextlib.contextmanager
def read(path: epath.PathLike) -> Iterator[dict[str, Weight]]:
  """{name: Weight} of the first of `read_groups`."""
  with read_groups(path) as groups:
    yield next(iter(groups.values()))


@contextlib.contextmanager
def read_groups(path: epath.PathLike) -> Iterator[dict[str, dict[str, Weight]]]:
  """{key: {name: Weight}} of all sets of tensors; valid inside the block.

  Training scripts put the weights beside an epoch or an optimizer, and averaged ones
  beside them. Those come first, as timm prefers them. '' is the key of a file that
  holds weights alone.

  Raises:
    UserError: for a damaged file, a pickle of anything but tensors and plain values,
      and tensors that are larger than what is stored.
  """
  path = epath.Path(path)
  with contextlib.ExitStack() as stack:
    with _damage_is_an_error(path):
      size = path.stat().length
      file = stack.enter_context(path.open('rb'))
      if file.read(2) != b'PK':
        raise ValueError(
            'it has the format of PyTorch before 1.6 or another one. Load and save it '
            'with a newer PyTorch, or save it as safetensors')
      file.seek(0)
      archive = stack.enter_context(zipfile.ZipFile(file))
      npz.check_sizes(path, archive, size)
      groups = _groups(path, archive)
    yield groups


def _groups(path: epath.Path, archive: zipfile.ZipFile
            ) -> dict[str, dict[str, Weight]]:
  pickles = [n for n in archive.namelist() if n.endswith('/data.pkl')]
  if len(pickles) != 1:
    raise ValueError('it holds no data.pkl')
  folder = pickles[0].removesuffix('data.pkl')
  if f'{folder}byteorder' in archive.namelist() and archive.read(
      f'{folder}byteorder') != b'little':
    raise ValueError('its arrays are big-endian')
  if archive.getinfo(pickles[0]).file_size > _MAX_BYTES:
    raise ValueError('its data.pkl is too large')
  data = archive.read(pickles[0])
  _check_cost(data)
  found = _Unpickler(io.BytesIO(data)).load()
  groups = {'': found}
  if isinstance(found, dict):
    groups = {key: found[key] for key in (*AVERAGED, *_RAW)
              if found.get(key) and isinstance(found[key], dict)} or groups
  return {key: {name: tensor.weight(path, archive, folder)
                for name, tensor in _tensors(group).items()}
          for key, group in groups.items()}


def _tensors(group: Any) -> dict[str, '_Tensor']:
  for key in _RAW:
    if isinstance(group, dict) and isinstance(group.get(key), dict):
      group = group[key]
  if not group or not isinstance(group, dict) or not all(
      isinstance(k, str) and isinstance(v, _Tensor) for k, v in group.items()):
    raise ValueError('it is no dictionary of tensors')
  return group


def _check_cost(data: bytes) -> None:
  """Raises ValueError unless unpickling takes time and memory in proportion.

  Follows which entries of the unpickler's stack would be costly as keys: the hash of a
  tuple of tuples takes 2^n steps after n instructions, and of tuples or huge numbers
  many can have the same.
  """
  stack: list[bool | None] = []  # None: a mark
  memo = {}
  for i, (opcode, arg, _) in enumerate(pickletools.genops(data)):
    name = opcode.name
    if name not in _INSTRUCTIONS:
      raise ValueError(f'its pickle has the instruction {name}, which is refused')
    if i > _MAX_INSTRUCTIONS:
      raise ValueError('its pickle is too long')
    if name in ('BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
      index = len(memo) if arg is None else arg  # MEMOIZE has none
      if index > i:  # the unpickler would make room for as many
        raise ValueError('its pickle counts wrongly')
      memo[index] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET'):
      stack.append(memo[arg])
    else:
      taken = _taken(stack, opcode.stack_before)
      if name.startswith('SETITEM') and any(taken[1::2]):
        raise ValueError('its pickle has a tuple or huge number as a key')
      costly = name in _TUPLES or isinstance(arg, int) and arg.bit_length() > 63
      stack += [None if x is pickletools.markobject else costly
                for x in opcode.stack_after]


def _taken(stack: list, before: list) -> list[bool]:
  """Removes from the stack what an instruction takes, the top first."""
  taken = []
  if pickletools.markobject in before:
    before = before[:before.index(pickletools.markobject)]
    while (entry := stack.pop()) is not None:
      taken.append(entry)
  return taken + [stack.pop() for _ in before]


class _StandIn:
  """An object that no instruction of a pickle can change."""

  def __setstate__(self, state: Any) -> Never:
    raise ValueError('its pickle changes something that is no dictionary')


class _OrderedDict(dict):
  """Stands for an OrderedDict."""

  def __setstate__(self, state: Any) -> None:
    """Leaves its attributes out, such as module versions."""


class _Global(_StandIn):
  """Stands for something that the pickle names; never the thing itself."""

  def __init__(self, meaning: Any) -> None:
    self.meaning = meaning  # a dtype, or what is called instead

  def __call__(self, *args: Any) -> Any:
    return self.meaning(*args)


class _Unpickler(pickle.Unpickler):
  """Knows tensors and plain values."""

  def find_class(self, module: str, name: str) -> _Global:
    if f'{module}.{name}' not in _GLOBALS:
      raise ValueError(
          f'its pickle asks for {module}.{name}, which is refused: only tensors are '
          'read, and nothing was executed')
    return _Global(_GLOBALS[f'{module}.{name}'])

  def persistent_load(self, pid: Any) -> '_Storage':
    kind, of_type, key, _, length = pid
    if kind != 'storage' or not isinstance(of_type, _Global) or not isinstance(
        of_type.meaning, np.dtype) or not re.fullmatch(r'\w+', key) or not isinstance(
            length, int):
      raise ValueError('it has a tensor of unknown kind')
    return _Storage(key, of_type.meaning, length)


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage(_StandIn):
  """A file of the zip with one flat array."""
  key: str
  dtype: np.dtype
  length: int


class _Tensor(_StandIn):
  """What `_rebuild_tensor_v2` would have been called with."""

  def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...],
               strides: tuple[int, ...], *_: Any) -> None:
    self.storage, self.offset = storage, offset
    self.shape, self.strides = tuple(shape), tuple(strides)
    if not isinstance(storage, _Storage) or not len(self.shape) == len(
        self.strides) <= _MAX_DIMS or not all(
            isinstance(x, int) and x >= 0
            for x in (storage.length, offset, *self.shape, *self.strides)):
      raise ValueError('it has a tensor of impossible shape')
    last = self.offset + sum(
        (n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
    # Strides of zero would let a small file stand for a huge array.
    if 0 not in self.shape and (
        last >= storage.length or np.prod(self.shape, dtype=object) > storage.length):
      raise ValueError('it has a tensor that is larger than its storage')

  def weight(self, path: epath.Path, archive: zipfile.ZipFile, folder: str) -> Weight:
    storage, itemsize = self.storage, self.storage.dtype.itemsize
    info = archive.getinfo(f'{folder}data/{storage.key}')
    if info.file_size != storage.length * itemsize:
      raise ValueError(f'{info.filename} has another size than its tensor')

    def read() -> np.ndarray:
      with _damage_is_an_error(path), archive.open(info) as member:
        flat = np.empty(storage.length, storage.dtype)
        npz.fill(member, flat)
      return np.lib.stride_tricks.as_strided(
          flat[self.offset:], self.shape,
          [s * itemsize for s in self.strides], writeable=False)
    return Weight(self.shape, storage.dtype, read)


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
  if not isinstance(tensor, _Tensor):
    raise ValueError('its pickle calls something that is no tensor')
  return tensor


# What a pickle may name, and what is called or meant in its place.
_GLOBALS = {
    'collections.OrderedDict': lambda *_: _OrderedDict(),
    'torch._utils._rebuild_tensor_v2': _Tensor,
    'torch._utils._rebuild_parameter': _parameter,
    **{f'torch.{name}': dtype for name, dtype in _DTYPES.items()},
}


def _damage_is_an_error(path: epath.Path) -> contextlib.AbstractContextManager[None]:
  return damage_is_an_error(
      path, _DAMAGE, 'PyTorch file of weights',
      'Give the weights alone, as safetensors or by torch.save(model.state_dict(), '
      'FILE), or fetch the file again if it is damaged.')
