"""Names and sizes of objects, by fsspec; see the package for why not TensorStore."""

import functools
from typing import Any

from vit_jax.runtime.errors import UserError
from vit_jax.runtime.storage import clients, failures
from vit_jax.runtime.storage.places import Stat
from vit_jax.runtime.storage.urls import Url


def children(url: Url, timeout: float) -> list[str]:
  """Names directly below a URL; none if there is nothing."""
  try:
    entries = _ask('list', url, '_ls', timeout, detail=True)
  except FileNotFoundError as e:
    _check_bucket(url, e)
    return []
  prefix = f'{_path(url)}/'
  # A "folder" that some programs make is an object with a slash at its end.
  names = {entry['name'].rstrip('/').removeprefix(prefix) for entry in entries
           if entry['name'].startswith(prefix)}
  return sorted(names - {''})


def below(url: Url, timeout: float) -> list[str]:
  """Names of all objects below a URL, however deep."""
  try:
    names = _ask('list', url, '_find', timeout)
  except FileNotFoundError as e:
    _check_bucket(url, e)
    return []
  prefix = f'{_path(url)}/'
  return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def stat(url: Url, timeout: float) -> Stat:
  """Raises FileNotFoundError if there is no such object."""
  try:
    found = _ask('read', url, '_info', timeout)
  except FileNotFoundError as e:
    _check_bucket(url, e)
    raise
  if found['type'] != 'file':
    raise FileNotFoundError(str(url))
  modified = found.get('mtime') or found['LastModified']
  # Amazon's tag is that of the content, and stays when the same is written again.
  version = found.get('generation') or f'{found["ETag"]} {modified}'
  return Stat(int(found['size']), version, modified.timestamp())


def has_bucket(url: Url, timeout: float) -> bool:
  """Whether the bucket is there, as far as we are allowed to know."""
  try:
    # Short, for there will be no such object.
    children(Url(url.scheme, url.bucket, '.vit_jax-is-there-a-bucket'), timeout)
  except failures.NoBucket:
    return False
  except failures.StorageError:
    pass
  return True


def _ask(verb: str, url: Url, name: str, timeout: float, **arguments: Any) -> Any:
  """Calls a coroutine of fsspec's file system for this URL."""
  system = _file_system(url.scheme)
  from fsspec import asyn
  try:
    return asyn.sync(system.loop, getattr(system, name), _path(url), timeout=timeout,
                     **arguments)
  except FileNotFoundError:
    raise
  except TimeoutError as e:
    raise failures.no_answer(verb, url, timeout) from e
  except Exception as e:
    raise failures.of_store(verb, url, e) from e


@functools.cache
def _file_system(scheme: str) -> Any:
  clients.configure()
  protocol, package = clients.FILE_SYSTEMS[scheme]
  import fsspec
  try:
    return fsspec.filesystem(protocol, use_listings_cache=False)
  except ImportError as e:
    raise UserError(
        f'URLs of {scheme}:// need the package {package}, which is not installed. Run '
        f"pip install 'vit_jax[{protocol}]'.") from e


def _path(url: Url) -> str:
  return f'{url.bucket}/{url.key}'.rstrip('/')


def _check_bucket(url: Url, error: FileNotFoundError) -> None:
  """Raises StorageError if a listing found nothing for want of a bucket."""
  # gcsfs names what it asked for, which is an object where the bucket was there.
  text = str(error)
  if text.endswith(f'b/{url.bucket}/o') or 'bucket does not exist' in text:
    raise failures.no_bucket('list', url) from error
