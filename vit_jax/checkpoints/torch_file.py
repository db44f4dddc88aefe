"""`pytorch_model.bin` and other files of torch.save, read without unpickling.

The file is a zip of raw arrays and one pickle that says which array is which. Its
opcodes are walked and only the few that a dictionary of tensors consists of are
understood; nothing is imported or called, so a malicious file can do nothing.
"""

import contextlib
import pickletools
import re
import zipfile
import zlib

import numpy as np
from etils import epath

from vit_jax.checkpoints import npz
from vit_jax.checkpoints.reaching import readable
from vit_jax.checkpoints.weights import BFLOAT16, Weight

_DTYPES = {
    'DoubleStorage': np.dtype('float64'), 'FloatStorage': np.dtype('float32'),
    'HalfStorage': np.dtype('float16'), 'BFloat16Storage': BFLOAT16,
    'LongStorage': np.dtype('int64'), 'IntStorage': np.dtype('int32'),
    'ShortStorage': np.dtype('int16'), 'CharStorage': np.dtype('int8'),
    'ByteStorage': np.dtype('uint8'), 'BoolStorage': np.dtype('bool'),
}
_TENSOR = 'torch._utils _rebuild_tensor_v2'
_PARAMETER = 'torch._utils _rebuild_parameter'
_ORDERED_DICT = 'collections OrderedDict'
_MARK = object()

# Pickles of state dicts have a few kilobytes to a few megabytes.
_MAX_PICKLE = 64 << 20

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, IndexError,
    KeyError, TypeError, AttributeError, RuntimeError, NotImplementedError)


@contextlib.contextmanager
def read(path):
  """{name: Weight} of all tensors; valid inside the block."""
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
      weights = _weights(path, archive)
    yield weights


def _weights(path, archive):
  pickles = [n for n in archive.namelist() if n.endswith('/data.pkl')]
  if len(pickles) != 1:
    raise ValueError('it holds no data.pkl')
  folder = pickles[0].removesuffix('data.pkl')
  if f'{folder}byteorder' in archive.namelist() and archive.read(
      f'{folder}byteorder') != b'little':
    raise ValueError('its arrays are big-endian')
  if archive.getinfo(pickles[0]).file_size > _MAX_PICKLE:
    raise ValueError('its data.pkl is too large')
  found = _walk(archive.read(pickles[0]))
  for key in ('state_dict', 'model'):
    # Training scripts put the weights beside an epoch or an optimizer.
    if isinstance(found, dict) and isinstance(found.get(key), dict):
      found = found[key]
  tensors = {k: v for k, v in found.items() if isinstance(v, _Tensor)} if isinstance(
      found, dict) else {}
  if not tensors or len(tensors) != len(found):
    raise ValueError('it is no dictionary of tensors')
  return {name: tensor.weight(path, archive, folder)
          for name, tensor in tensors.items()}


class _Tensor:
  """What `_rebuild_tensor_v2` would have been called with."""

  def __init__(self, storage, offset, shape, strides, *_):
    kind, global_name, key, _, self.length = storage
    name = global_name.name.removeprefix('torch ')
    if kind != 'storage' or name not in _DTYPES or not re.fullmatch(r'\w+', key):
      raise ValueError(f'it has a tensor of unknown kind {name!r}')
    self.dtype, self.key = _DTYPES[name], key
    self.offset, self.shape, self.strides = offset, tuple(shape), tuple(strides)
    whole = (self.length, self.offset, *self.shape, *self.strides)
    if not all(isinstance(x, int) and x >= 0 for x in whole) or len(
        self.shape) != len(self.strides):
      raise ValueError('it has a tensor of impossible shape')
    last = self.offset + sum(
        (n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
    # Strides of zero would let a small file stand for a huge array.
    if 0 not in self.shape and (
        last >= self.length or np.prod(self.shape, dtype=object) > self.length):
      raise ValueError('it has a tensor that is larger than its storage')

  def weight(self, path, archive, folder) -> Weight:
    info = archive.getinfo(f'{folder}data/{self.key}')
    if info.file_size != self.length * self.dtype.itemsize:
      raise ValueError(f'{info.filename} has another size than its tensor')

    def read():
      with _damage_is_an_error(path), archive.open(info) as member:
        flat = np.empty(self.length, self.dtype)
        npz.fill(member, flat)
      return np.lib.stride_tricks.as_strided(
          flat[self.offset:], self.shape,
          [s * self.dtype.itemsize for s in self.strides], writeable=False)
    return Weight(self.shape, self.dtype, read)


class _Global:
  """A name that the pickle mentions; never looked up."""

  def __init__(self, name):
    self.name = name


def _walk(data: bytes):
  """What the pickle describes, of dicts, tuples, plain values and tensors."""
  stack, memo = [], {}
  for opcode, arg, _ in pickletools.genops(data):
    name = opcode.name
    if name in ('PROTO', 'FRAME'):
      continue
    if name == 'STOP':
      return stack.pop()
    if name == 'MARK':
      stack.append(_MARK)
    elif name in _CONSTANTS:
      stack.append(_CONSTANTS[name]())
    elif name in _VALUES:
      stack.append(arg)
    elif name in ('BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
      memo[len(memo) if name == 'MEMOIZE' else arg] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET'):
      stack.append(memo[arg])
    elif name == 'GLOBAL':
      stack.append(_allowed(arg))
    elif name == 'STACK_GLOBAL':
      attribute, module = stack.pop(), stack.pop()
      stack.append(_allowed(f'{module} {attribute}'))
    elif name == 'TUPLE':
      stack.append(tuple(_to_mark(stack)))
    elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
      n = int(name[-1])
      stack[-n:] = [tuple(stack[-n:])]
    elif name in ('SETITEM', 'SETITEMS'):
      items = [stack.pop(-2), stack.pop()] if name == 'SETITEM' else _to_mark(stack)
      stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name in ('APPEND', 'APPENDS'):
      items = [stack.pop()] if name == 'APPEND' else _to_mark(stack)
      stack[-1].extend(items)
    elif name == 'BUILD':
      stack.pop()  # attributes of the dictionary, such as module versions
    elif name == 'REDUCE':
      args, function = stack.pop(), stack.pop()
      stack.append(_call(function, args))
    elif name == 'BINPERSID':
      pass  # (kind, storage type, key, device, length) stays as it is
    else:
      raise ValueError(f'its pickle has the instruction {name}, which is refused')
  raise EOFError('its pickle ends too early')


_CONSTANTS = {
    'EMPTY_DICT': dict, 'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list,
    'NONE': lambda: None, 'NEWTRUE': lambda: True, 'NEWFALSE': lambda: False}
_VALUES = (
    'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE',
    'SHORT_BINUNICODE', 'BINUNICODE8')


def _allowed(name):
  if name not in (_TENSOR, _PARAMETER, _ORDERED_DICT) and name.removeprefix(
      'torch ') not in _DTYPES:
    raise ValueError(
        f'its pickle asks for {name.replace(" ", ".")}, which is refused: only tensors '
        'are read, and nothing was executed')
  return _Global(name)


def _call(function, args):
  """The meaning of a call of one of the few allowed names."""
  name = getattr(function, 'name', None)
  if name == _ORDERED_DICT:
    return {}
  if name == _TENSOR:
    return _Tensor(*args)
  if name == _PARAMETER and isinstance(args[0], _Tensor):
    return args[0]
  raise ValueError('its pickle calls something that is no tensor')


def _to_mark(stack):
  items = []
  while (item := stack.pop()) is not _MARK:
    items.append(item)
  return items[::-1]


def _damage_is_an_error(path):
  return readable(
      path, _DAMAGE, 'PyTorch file of weights',
      'Fetch it again, or give the model as safetensors.')
