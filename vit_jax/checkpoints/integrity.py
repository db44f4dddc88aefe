"""Checksums of a checkpoint's files: damage is found before it is trained on.

Orbax and TensorStore notice a missing or truncated file, but not a flipped bit in the
arrays themselves. So every checkpoint carries a list of its files with their sizes and
CRC-32C, written before it is committed.
"""

import dataclasses
import json
import pathlib
from concurrent import futures

import google_crc32c
import orbax.checkpoint as ocp
from etils import epath

_LIST = 'checksums.json'
_BLOCK = 1 << 24
_THREADS = 4


def seal(directory: epath.PathLike) -> None:
  """Writes the list of all files under `directory`, which must be complete."""
  directory = pathlib.Path(directory)
  names = sorted(
      str(path.relative_to(directory)) for path in directory.rglob('*')
      if path.is_file() and path.name != _LIST)
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    sums = dict(zip(names, pool.map(
        lambda name: _sum(directory / name), names), strict=True))
  (directory / _LIST).write_text(json.dumps(sums, indent=1) + '\n')


def damage(directory: epath.PathLike, share: tuple[int, int] = (0, 1)) -> str:
  """What is wrong with the files under a sealed directory; '' if nothing is.

  Args:
    directory: that `seal` was called on.
    share: (i, n): check only the i-th of n parts of the files.
  """
  directory = pathlib.Path(directory)
  try:
    expected = json.loads((directory / _LIST).read_text())
    names = sorted(expected)[share[0]::share[1]]
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      problems = pool.map(
          lambda name: _problem(directory / name, *expected[name]), names)
      return next((p for p in problems if p), '')
  except FileNotFoundError:
    return f'{directory / _LIST} is missing'
  except (OSError, ValueError, TypeError, AttributeError, RecursionError):
    return f'{directory / _LIST} is not readable'


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


def _problem(path: pathlib.Path, size: int, crc: str) -> str:
  try:
    found_size, found_crc = _sum(path)
  except OSError as e:
    return f'{path}: {e.strerror}'
  if found_size != size:
    return f'{path} has {found_size} bytes, {size} were written'
  if found_crc != crc:
    return f'{path} has the CRC-32C {found_crc}, {crc} was written'
  return ''


def _sum(path: pathlib.Path) -> tuple[int, str]:
  size, checksum = 0, google_crc32c.Checksum()
  with open(path, 'rb') as file:
    while block := file.read(_BLOCK):
      size += len(block)
      checksum.update(block)
  return size, checksum.hexdigest().decode()
