"""Many ranges of bytes at a time, which is how data is read from stores."""

import pathlib
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

from vit_jax.runtime.storage import failures
from vit_jax.runtime.storage.failures import StorageError
from vit_jax.runtime.storage.objects import ObjectPath, absent
from vit_jax.runtime.storage.urls import PathLike, Url, parse

# Seconds until a request that has stalled is made again, and how often that is done.
_STALLED, _TRIES = 30.0, 3


class Range(NamedTuple):
  """Bytes of a file, from `start` up to `stop`."""
  path: PathLike
  start: int
  stop: int


def read_ranges(ranges: Sequence[Range]) -> list[bytes]:
  """The bytes of all ranges; those in object stores are under way at the same time.

  Raises:
    FileNotFoundError: if a file is absent.
    StorageError: if a file is shorter than its range, or cannot be read.
  """
  places = [parse(r.path) for r in ranges]
  futures = [_begin(place, r) if isinstance(place, Url) else None
             for place, r in zip(places, ranges, strict=True)]
  return [_from_disk(place, r) if isinstance(place, pathlib.Path)
          else _from_store(place, r, future)
          for place, r, future in zip(places, ranges, futures, strict=True)]


def _begin(url: Url, wanted: Range) -> Any:
  return ObjectPath(url).ranged(wanted.start, wanted.stop)


def _from_store(url: Url, wanted: Range, future: Any) -> bytes:
  for _ in range(_TRIES):
    try:
      found = future.result(timeout=_STALLED)
    except TimeoutError:
      future = _begin(url, wanted)
      continue
    except Exception as e:
      if str(e).startswith('OUT_OF_RANGE'):
        raise _short(url, wanted) from e
      raise failures.of_store('read', url, e) from e
    if found.state == 'missing':
      raise absent(url)
    return found.value
  raise failures.no_answer('read', url, _TRIES * _STALLED)


def _from_disk(path: pathlib.Path, wanted: Range) -> bytes:
  try:
    with path.open('rb') as file:
      file.seek(wanted.start)
      return _exactly(file, path, wanted)
  except FileNotFoundError:
    raise
  except OSError as e:
    raise failures.of_disk('read', path, e) from e


def _exactly(file: BinaryIO, path: pathlib.Path, wanted: Range) -> bytes:
  parts, missing = [], wanted.stop - wanted.start
  while missing:
    part = file.read(missing)
    if not part:
      raise _short(path, wanted)
    parts.append(part)
    missing -= len(part)
  return b''.join(parts)


def _short(path: object, wanted: Range) -> StorageError:
  return StorageError(
      'read', path, f'it ends before byte {wanted.stop}', 'Check that it is whole.')
