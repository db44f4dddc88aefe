"""The safetensors container: reading with its library, writing as a stream.

The library checks a file's header (sizes, overlaps, holes). Its writer wants all
arrays in memory at once, so the writer here is our own: the format is a length, a
JSON header, and the arrays one after another.
https://github.com/huggingface/safetensors#format
"""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import safetensors
from etils import epath

from vit_jax.checkpoints.weights import BFLOAT16, Weight
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import damage_is_an_error, unreachable_is_an_error

_DTYPES = {
    'F64': np.dtype('float64'), 'F32': np.dtype('float32'),
    'F16': np.dtype('float16'), 'BF16': BFLOAT16, 'I64': np.dtype('int64'),
    'I32': np.dtype('int32'), 'I16': np.dtype('int16'), 'I8': np.dtype('int8'),
    'U8': np.dtype('uint8'), 'BOOL': np.dtype('bool'),
}

_DAMAGE = (safetensors.SafetensorError, OSError, ValueError, MemoryError)


@contextlib.contextmanager
def read(path: epath.PathLike) -> Iterator[dict[str, Weight]]:
  """{name: Weight} of all tensors; valid inside the block.

  The library opens local files only; others are held in memory meanwhile.
  """
  path = epath.Path(path)
  with unreachable_is_an_error(path):
    there = path.is_file()
  if not there:
    raise UserError(f'No file {path}; give an existing checkpoint.')
  if '://' in str(path):
    yield _in_memory(path)
    return
  with contextlib.ExitStack() as stack:
    with _damage_is_an_error(path):
      # 'pread' rather than mmap: mapped pages would count as used memory.
      file = stack.enter_context(
          safetensors.safe_open(str(path), 'numpy', backend='pread'))
      weights = {name: _weight(path, file, name) for name in file.keys()}
    yield weights


def write(file: IO[bytes], weights: Mapping[str, Weight],
          progress: Callable[[int], None] = lambda nbytes: None) -> None:
  """Writes to an open binary file, one tensor after another."""
  names = {dtype: name for name, dtype in _DTYPES.items()}
  # The mark by which PyTorch code knows whose tensors these are.
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  offset = 0
  for name, weight in weights.items():
    if weight.dtype not in names:
      raise UserError(f'{name} is {weight.dtype}, which safetensors cannot hold.')
    header[name] = {'dtype': names[weight.dtype], 'shape': list(weight.shape),
                    'data_offsets': [offset, offset + weight.nbytes]}
    offset += weight.nbytes
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)  # tensors start at a multiple of 8 bytes
  file.write(struct.pack('<Q', len(text)))
  file.write(text)
  for weight in weights.values():
    array = np.ascontiguousarray(weight.read())
    file.write(array.reshape(-1).view(np.uint8).data)
    progress(weight.nbytes)


def write_folder(folder: epath.Path, weights: Mapping[str, Weight],
                 described: Mapping[str, Any], progress: Callable[[int], None]
                 ) -> None:
  """Makes a folder with model.safetensors and JSON files, {name: content}."""
  folder.mkdir()
  for name, content in described.items():
    (folder / name).write_text(json.dumps(content, indent=2) + '\n')
  with (folder / 'model.safetensors').open('wb') as file:
    write(file, weights, progress)


def _weight(path: epath.Path, file: Any, name: str) -> Weight:
  part = file.get_slice(name)
  def read() -> np.ndarray:
    with _damage_is_an_error(path):
      return file.get_tensor(name)
  return Weight(tuple(part.get_shape()), _dtype(name, part.get_dtype()), read)


def _in_memory(path: epath.Path) -> dict[str, Weight]:
  with _damage_is_an_error(path):
    weights = {}
    for name, spec in safetensors.deserialize(path.read_bytes()):
      dtype, shape = _dtype(name, spec['dtype']), tuple(spec['shape'])
      array = np.frombuffer(spec['data'], dtype).reshape(shape)
      weights[name] = Weight(shape, dtype, lambda array=array: array)
    return weights


def _dtype(name: str, dtype: str) -> np.dtype:
  if dtype not in _DTYPES:
    raise ValueError(f'{name} has dtype {dtype}; known are {", ".join(_DTYPES)}')
  return _DTYPES[dtype]


def _damage_is_an_error(path: epath.Path) -> contextlib.AbstractContextManager[None]:
  return damage_is_an_error(
      path, _DAMAGE, 'safetensors file',
      'Fetch it again, or convert it anew.')
