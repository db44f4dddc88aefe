"""The npz container: names, shapes and dtypes at once, arrays one by one.

The file is read as a zip of arrays without `numpy.load`, so that nothing is ever
unpickled, sizes are known before memory is asked for, and checksums are compared.
"""

import contextlib
import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, cast

import numpy as np
from etils import epath

from vit_jax.checkpoints.weights import BFLOAT16, Weight
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.file_errors import damage_is_an_error

# A file may unpack to this many times its size, plus a constant: published files
# are not compressed at all, and a classifier of zeros is at most a tenth of one.
_MAX_RATIO = 32
_MAX_CONSTANT = 64 << 20

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, SyntaxError,
    RuntimeError, NotImplementedError, tokenize.TokenError)


@contextlib.contextmanager
def read(path: epath.PathLike) -> Iterator[dict[str, Weight]]:
  """{name: Weight} of all arrays; valid inside the block.

  Raises:
    UserError: for a damaged file, one that would unpack to something huge, arrays
      of Python objects, and names that occur twice.
  """
  path = epath.Path(path)
  with contextlib.ExitStack() as stack:
    with _damage_is_an_error(path):
      size = path.stat().length
      file = stack.enter_context(path.open('rb'))
      try:
        archive = stack.enter_context(zipfile.ZipFile(file))
      except zipfile.BadZipFile as e:
        raise ValueError('truncated, or no npz file') from e
      check_sizes(path, archive, size)
      weights = {}
      for info in archive.infolist():
        name = info.filename.removesuffix('.npy')
        if name == info.filename:
          raise ValueError(f'it holds {name!r}, which is no npy array')
        if name in weights:
          raise ValueError(f'it holds two arrays named {name!r}')
        weights[name] = _weight(path, archive, info)
    yield weights


def write(file: IO[bytes], weights: Mapping[str, Weight],
          progress: Callable[[int], None] = lambda nbytes: None) -> None:
  """Writes to an open binary file, uncompressed like the published ones."""
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
    for name, weight in weights.items():
      # A fixed date: the same weights give the same file.
      info = zipfile.ZipInfo(f'{name}.npy', (1980, 1, 1, 0, 0, 0))
      array = weight.read()
      if array.dtype == BFLOAT16:
        # What numpy.savez makes of bfloat16, and what readers of such files expect.
        array = array.view('V2')
      with archive.open(info, 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
      progress(weight.nbytes)


def check_sizes(path: epath.PathLike, archive: zipfile.ZipFile, size: int) -> None:
  """Raises UserError if the zip would unpack to far more than its own size."""
  total = sum(info.file_size for info in archive.infolist())
  if total > _MAX_RATIO * size + _MAX_CONSTANT:
    raise UserError(
        f'{path} has {size:,} bytes and would unpack to {total:,}: that is no '
        'checkpoint, and nothing was unpacked. If you trust it, save it again '
        'without compression.')


def _weight(
    path: epath.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Weight:
  with archive.open(info) as member:
    shape, fortran_order, dtype = _header(info, member)
  nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
  # Files written on big-endian machines; no other library here takes such arrays.
  native = dtype.newbyteorder('=')
  if not 0 <= info.file_size - nbytes < 1 << 16:
    raise ValueError(
        f'{info.filename} declares {dtype} {shape}, but has {info.file_size} bytes')

  def read() -> np.ndarray:
    with _damage_is_an_error(path), archive.open(info) as member:
      _header(info, member)
      array = np.empty(shape, dtype, order='F' if fortran_order else 'C')
      fill(member, array.ravel(order='K'))
      return array.astype(native, copy=False)
  return Weight(shape, native, read)


def fill(member: IO[bytes], flat: np.ndarray) -> None:
  """Reads exactly the bytes of a one-dimensional array from a zip member."""
  stream = cast(io.BufferedIOBase, member)
  left = flat.view(np.uint8).data if flat.size else memoryview(b'')
  while left:
    got = stream.readinto(left[:1 << 24])
    if not got:
      raise EOFError('an array ends too early')
    left = left[got:]
  # Reading the end makes zipfile compare the checksum.
  if member.read(1):
    raise ValueError('an array is longer than its shape')


def _header(info: zipfile.ZipInfo, member: IO[bytes]
            ) -> tuple[tuple[int, ...], bool, np.dtype]:
  version = np.lib.format.read_magic(member)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f'{info.filename} is of npy version {version}')
  parse = (np.lib.format.read_array_header_1_0 if version == (1, 0)
           else np.lib.format.read_array_header_2_0)
  shape, fortran_order, dtype = parse(member)
  if any(type(n) is not int or n < 0 for n in shape):
    raise ValueError(f'{info.filename} has the shape {shape}')
  if dtype == np.dtype('V2'):
    dtype = BFLOAT16
  if dtype.hasobject:
    raise ValueError(
        f'{info.filename} holds Python objects, which are never unpickled')
  if dtype.kind not in 'fiub' and dtype != BFLOAT16:
    raise ValueError(f'{info.filename} has dtype {dtype}, which is no number')
  return shape, fortran_order, dtype


def _damage_is_an_error(path: epath.Path) -> contextlib.AbstractContextManager[None]:
  return damage_is_an_error(
      path, _DAMAGE, 'npz file',
      'Expected arrays of numbers as written by numpy.savez; fetch the file again.')
