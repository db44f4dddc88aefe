"""Checksums of a checkpoint's files: damage is found before it is trained on.

Orbax and TensorStore notice a missing or truncated file, but not a flipped bit in the
arrays themselves. So every checkpoint carries a list of its files with their sizes and
CRC-32C, written before it is committed.
"""

import dataclasses
import json
from collections.abc import Iterator
from concurrent import futures

import google_crc32c
import orbax.checkpoint as ocp
from etils import epath

from vit_jax.runtime import storage
from vit_jax.runtime.storage import Range
from vit_jax.runtime.storage.urls import PathLike

_LIST = 'checksums.json'
_BLOCK = 1 << 24
_THREADS = 4


def seal(directory: epath.PathLike) -> None:
  """Writes the list of all files under `directory`, which must be complete."""
  names = [name for name in storage.below(directory)
           if name.rpartition('/')[2] != _LIST]
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    sums = dict(zip(names, pool.map(
        lambda name: _sum(storage.join(directory, name)), names), strict=True))
  text = json.dumps(sums, indent=1) + '\n'
  storage.write_bytes(storage.join(directory, _LIST), text.encode(), durable=False)


def damage(directory: epath.PathLike, share: tuple[int, int] = (0, 1)) -> str:
  """What is wrong with the files under a sealed directory; '' if nothing is.

  Args:
    directory: that `seal` was called on.
    share: (i, n): check only the i-th of n parts of the files.
  """
  path = storage.join(directory, _LIST)
  try:
    expected = json.loads(_read(path))
    names = sorted(expected)[share[0]::share[1]]
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      problems = pool.map(
          lambda name: _problem(storage.join(directory, name), *expected[name]), names)
      return next((p for p in problems if p), '')
  except FileNotFoundError:
    return f'{path} is missing'
  except (OSError, ValueError, TypeError, AttributeError, RecursionError):
    return f'{path} is not readable'


class SealingHandler(ocp.StandardCheckpointHandler):
  """Orbax's handler of a training state; seals its folder before it is committed."""

  def finalize(self, directory: epath.Path) -> None:
    super().finalize(directory)
    seal(directory)


# Orbax finds the handler of an item by the type of its arguments.
@ocp.args.register_with_handler(SealingHandler, for_save=True)
@dataclasses.dataclass
class Save(ocp.args.StandardSave):
  """Saves a state with `SealingHandler`."""


@ocp.args.register_with_handler(SealingHandler, for_restore=True)
@dataclasses.dataclass
class Restore(ocp.args.StandardRestore):
  """Restores a state with `SealingHandler`."""


def _read(path: PathLike) -> bytes:
  if storage.is_url(path):
    return storage.read_bytes(path)
  with open(path, 'rb') as file:
    return file.read()


def _problem(path: PathLike, size: int, crc: str) -> str:
  try:
    found_size, found_crc = _sum(path)
  except OSError as e:
    return f'{path}: {e.strerror or "it is missing"}'
  if found_size != size:
    return f'{path} has {found_size} bytes, {size} were written'
  if found_crc != crc:
    return f'{path} has the CRC-32C {found_crc}, {crc} was written'
  return ''


def _sum(path: PathLike) -> tuple[int, str]:
  size, checksum = 0, google_crc32c.Checksum()
  for block in _blocks(path):
    size += len(block)
    checksum.update(block)
  return size, checksum.hexdigest().decode()


def _blocks(path: PathLike) -> Iterator[bytes]:
  if storage.is_url(path):
    size = storage.stat(path).size
    for start in range(0, size, _BLOCK):
      yield storage.read_ranges([Range(path, start, min(start + _BLOCK, size))])[0]
    return
  with open(path, 'rb') as file:
    while block := file.read(_BLOCK):
      yield block
