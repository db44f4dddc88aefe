"""Objects in stores, by TensorStore's key-value stores."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from typing import Any

from vit_jax.runtime.storage import clients, failures, listings
from vit_jax.runtime.storage.disk import too_large
from vit_jax.runtime.storage.failures import StorageError
from vit_jax.runtime.storage.places import PATIENCE, Stat
from vit_jax.runtime.storage.urls import Url

# TensorStore's generations: of an object that isn't there; of one that was not written
# because another generation was found than the condition says.
_ABSENT, _REFUSED = b'\x02', b''
# Adds up to half a minute; the default is a quarter of an hour.
_RETRIES = {'max_retries': 7, 'initial_delay': '250ms', 'max_delay': '8s'}
# Bytes a second that a connection should carry at least.
_SLOWEST = 1e6
_seen_buckets: set[tuple[str, str]] = set()


@dataclasses.dataclass(frozen=True)
class ObjectPath:
  """A `Place`."""
  url: Url

  def read(self, limit: int | None, timeout: float) -> bytes:
    if limit is not None and self._is_longer(limit, timeout):
      raise too_large(self.url, limit)
    return self._get(timeout).value

  def write(self, data: bytes, durable: bool, timeout: float) -> None:
    self._put(data, None, timeout)

  def touch(self, change: Callable[[bytes | None], bytes], timeout: float) -> None:
    self.update(change, timeout)

  def create(self, data: bytes, durable: bool, timeout: float) -> bool:
    if self._put(data, _ABSENT, timeout):
      return True
    # It may be ours: when an answer is lost, TensorStore asks again.
    try:
      return self._get(timeout).value == data
    except FileNotFoundError:
      return False

  def update(self, change: Callable[[bytes | None], bytes], timeout: float) -> bytes:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
      try:
        found = self._get(timeout)
        old, generation = found.value, found.stamp.generation
      except FileNotFoundError:
        old, generation = None, _ABSENT
      new = change(old)
      if new == old or self._put(new, generation, timeout):
        return new
    raise StorageError(
        'write to', self.url, f'others kept changing it for {timeout:g} s',
        'Try again.')

  def exists(self, timeout: float) -> bool:
    try:
      self._get(timeout, slice(0, 0))
    except FileNotFoundError:
      return False
    return True

  def is_folder(self, timeout: float) -> bool:
    return bool(self.children(timeout))

  def stat(self, timeout: float) -> Stat:
    if self.url.scheme == 'memory':
      found = self._get(timeout)
      return Stat(len(found.value), found.stamp.generation.hex(), 0.0)
    return listings.stat(self.url, timeout)

  def children(self, timeout: float) -> list[str]:
    if self.url.scheme == 'memory':
      return sorted({name.split('/')[0] for name in self.below(timeout)})
    return listings.children(self.url, timeout)

  def below(self, timeout: float) -> list[str]:
    if self.url.scheme != 'memory':
      return listings.below(self.url, timeout)
    import tensorstore as ts
    prefix = f'{self.url.key}/'.lstrip('/')
    # The byte after a slash is that of a zero.
    inside = (ts.KvStore.KeyRange(prefix, f'{prefix[:-1]}0') if prefix
              else ts.KvStore.KeyRange())
    found = _wait(self.url, 'list', timeout,
                  lambda: _store(self.url).list(inside, len(prefix.encode())))
    return sorted(name.decode() for name in found)

  def delete(self, timeout: float) -> None:
    _wait(self.url, 'delete', timeout,
          lambda: _store(self.url).write(self._key('delete'), None))

  def delete_tree(self, timeout: float) -> None:
    store = _store(self.url)
    prefix = f'{self.url.key}/'.lstrip('/')
    futures = [store.write(prefix + name, None) for name in self.below(timeout)]
    for future in futures:
      _wait(self.url, 'delete', timeout, lambda future=future: future)
    if self.url.key:
      self.delete(timeout)

  def make_folder(self) -> None:
    """Folders exist as soon as something is in them."""

  def ranged(self, start: int, stop: int) -> Any:
    """A future of the bytes from `start` up to `stop`; `value` is in its result."""
    return _store(self.url).read(self._key('read'), byte_range=slice(start, stop))

  def _get(self, timeout: float, byte_range: slice | None = None) -> Any:
    """TensorStore's `ReadResult`; raises FileNotFoundError."""
    found = _wait(self.url, 'read', timeout, lambda: _store(self.url).read(
        self._key('read'), byte_range=byte_range))
    if found.state == 'missing':
      raise absent(self.url)
    return found

  def _put(self, data: bytes, generation: bytes | None, timeout: float) -> bool:
    """Whether the object was written, which on a condition it may not be."""
    stamp = _wait(
        self.url, 'write to', timeout + len(data) / _SLOWEST, lambda: _store(
            self.url).write(self._key('write to'), data, if_equal=generation))
    return stamp.generation != _REFUSED

  def _is_longer(self, limit: int, timeout: float) -> bool:
    try:
      self._get(timeout, slice(limit, limit + 1))
    except OutOfRange:
      return False
    return True

  def _key(self, verb: str) -> str:
    if not self.url.key:
      raise StorageError(verb, self.url, 'it is a bucket',
                         f'Give a path inside of it, as {self.url}/folder.')
    return self.url.key


class OutOfRange(StorageError):
  """An object that ends before the bytes that were asked for."""


def absent(url: Url) -> Exception:
  """What to raise where there is no object."""
  # TensorStore says the same of an absent bucket.
  if url.scheme != 'memory' and (url.scheme, url.bucket) not in _seen_buckets:
    if not listings.has_bucket(url, PATIENCE):
      return failures.no_bucket('read', url)
    _seen_buckets.add((url.scheme, url.bucket))
  return FileNotFoundError(f'no object {url}')


def _wait(url: Url, verb: str, timeout: float, begin: Callable[[], Any]) -> Any:
  """The result of the future that `begin` returns."""
  try:
    return begin().result(timeout=timeout)
  except StorageError:
    raise
  except TimeoutError as e:
    raise failures.no_answer(verb, url, timeout) from e
  except Exception as e:
    if str(e).startswith('OUT_OF_RANGE'):
      raise OutOfRange(verb, url, 'it ends before', 'Check that it is whole.') from e
    raise failures.of_store(verb, url, e) from e


def _store(url: Url) -> Any:
  """The `KvStore` that holds all objects of a bucket."""
  try:
    return _opened(url.scheme, url.bucket)
  except ValueError as e:
    raise failures.of_store('open', url, e) from e


@functools.cache
def _opened(scheme: str, bucket: str) -> Any:
  clients.configure()
  import tensorstore as ts
  if scheme == 'memory':
    spec = {'driver': 'memory', 'path': f'{bucket}/'}
  elif scheme == 'gs':
    spec = {'driver': 'gcs', 'bucket': bucket}
  else:
    spec = {'driver': 's3', 'bucket': bucket, **_s3_endpoint()}
  return ts.KvStore.open(spec, context=_context()).result()


@functools.cache
def _context() -> Any:
  import tensorstore as ts
  return ts.Context({'gcs_request_retries': _RETRIES, 's3_request_retries': _RETRIES})


def _s3_endpoint() -> dict[str, str]:
  """What TensorStore does not take from AWS's variables by itself."""
  endpoint = os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL')
  region = os.environ.get('AWS_REGION') or os.environ.get('AWS_DEFAULT_REGION')
  if not endpoint:
    return {}
  return {'endpoint': endpoint, 'aws_region': region or 'us-east-1'}
