"""What stores, networks and accounts do wrong: survived, or told in bounded time."""

import os
import subprocess
import sys
import time

import pytest

from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.storage import StorageError, failures, listings, objects, ranges
from vit_jax.runtime.storage.urls import Url


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
  """Retries follow each other at once."""
  def forget():
    objects._context.cache_clear()
    objects._opened.cache_clear()
  monkeypatch.setattr(
      objects, '_RETRIES', {'max_retries': 6, 'initial_delay': '5ms'})
  forget()
  yield
  forget()


@pytest.fixture(params=['gs', 's3'])
def store(request):
  return request.getfixturevalue({'gs': 'gcs', 's3': 's3'}[request.param])


def _operations(url):
  return {
      'read': lambda: storage.read_bytes(url),
      'write': lambda: storage.write_bytes(url, b'x'),
      'create': lambda: storage.create(url, b'x'),
      'update': lambda: storage.update(url, lambda old: b'y'),
      'exists': lambda: storage.exists(url),
      'ranges': lambda: storage.read_ranges([storage.Range(url, 0, 1)]),
      'stat': lambda: storage.stat(url),
      'children': lambda: storage.children(url),
      'below': lambda: storage.below(url),
      'delete': lambda: storage.delete(url),
  }


def test_a_refused_account_is_told_which_role_it_needs(store):
  url = f'{store.url}/f'
  storage.write_bytes(url, b'x')
  role = {'gs': 'roles/storage.objectAdmin', 's3': 's3:ListBucket'}[store.scheme]
  for name, operation in _operations(url).items():
    store.proxy.reset()
    store.proxy.fail(403, times=1000)
    with pytest.raises(StorageError, match=(
        rf'Cannot (read|write to|list|delete) {url}: access denied \(403\)\. Give the '
        rf'account .*{role}')):
      operation()
    assert store.proxy.count() < 5, name


def test_absent_credentials_are_told_how_to_get(gcs):
  for name, operation in _operations(f'{gcs.url}/f').items():
    gcs.proxy.reset()
    gcs.proxy.fail(401, times=1000)
    with pytest.raises(StorageError, match=(
        'the store wants credentials, and there are no valid ones. To have some, run '
        '`gcloud auth application-default login`')):
      operation()
    assert gcs.proxy.count() < 5, name


def test_absent_credentials_of_libraries_are_told(gcs):
  class NoCredentialsError(Exception):
    """As botocore has it."""
  error = failures.of_store('read', Url('s3', 'b', 'k'), NoCredentialsError('none'))
  assert 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE' in str(error)


@pytest.mark.parametrize('operation', [
    'read', 'write', 'create', 'update', 'exists', 'ranges', 'stat', 'children',
    'below'])
def test_an_absent_bucket_is_named(store, operation):
  with pytest.raises(StorageError, match=(
      'there is no bucket none-of-this-name. Create it, or correct the name')):
    _operations(f'{store.scheme}://none-of-this-name/f')[operation]()


@pytest.mark.parametrize('status', [503, 429])
def test_a_store_with_trouble_is_asked_again(store, status):
  url = f'{store.url}/f'
  for operation in (lambda: storage.write_bytes(url, b'data'),
                    lambda: storage.read_bytes(url)):
    store.proxy.fail(status, times=2)
    found = operation()
  assert found == b'data'
  assert store.proxy.count() >= 6


def test_a_listing_with_trouble_is_asked_for_again(gcs):
  storage.write_bytes(f'{gcs.url}/f', b'data')
  gcs.proxy.fail(503)
  assert storage.children(gcs.url) == ['f']


def test_a_store_that_stays_in_trouble_is_given_up(gcs):
  gcs.proxy.fail(503, times=1000)
  with pytest.raises(StorageError, match=(
      r'Cannot write to gs://.*/f: the store still answers 503 after retries\. Try '
      'again later')):
    storage.write_bytes(f'{gcs.url}/f', b'x')
  assert gcs.proxy.count() == 7
  with pytest.raises(StorageError, match=r'Cannot list .*: no answer within 0\.5 s'):
    storage.children(gcs.url, timeout=0.5)


def test_cut_connections_lose_nothing(store):
  url, data = f'{store.url}/f', os.urandom(200_000)
  store.proxy.cut_upload()
  storage.write_bytes(url, data)
  store.proxy.lose_answer()
  storage.write_bytes(url, data)
  store.proxy.cut(after=1000)
  assert storage.read_bytes(url) == data
  store.proxy.cut(after=3, times=5)
  wanted = [storage.Range(url, i, i + 1000) for i in range(0, 200_000, 10_000)]
  assert storage.read_ranges(wanted) == [data[r.start:r.stop] for r in wanted]


def test_a_creation_whose_answer_was_lost_is_known_as_ours(store):
  store.proxy.lose_answer(match='ifGenerationMatch' if store.scheme == 'gs' else '',
                          method={'gs': 'POST', 's3': 'PUT'}[store.scheme])
  assert storage.create(f'{store.url}/f', b'of one')
  assert not storage.create(f'{store.url}/f', b'of another')


def test_an_update_whose_answer_was_lost_happens_once(store):
  storage.write_bytes(f'{store.url}/f', b'1')
  store.proxy.lose_answer(method={'gs': 'POST', 's3': 'PUT'}[store.scheme])
  added = storage.update(f'{store.url}/f', lambda old: b'2' if old == b'1' else old)
  assert added == b'2' and storage.read_bytes(f'{store.url}/f') == b'2'


def test_stalled_ranges_are_asked_for_again(gcs, monkeypatch):
  monkeypatch.setattr(ranges, '_STALLED', 0.15)
  storage.write_bytes(f'{gcs.url}/f', b'data')
  gcs.proxy.stall(times=2)
  assert storage.read_ranges([storage.Range(f'{gcs.url}/f', 0, 4)]) == [b'data']
  gcs.proxy.stall(times=1000)
  with pytest.raises(StorageError, match='Cannot read .*: no answer within 0.45 s'):
    storage.read_ranges([storage.Range(f'{gcs.url}/f', 0, 4)])


def test_a_store_that_says_nothing_is_given_up(gcs):
  gcs.proxy.stall(times=1000)
  began = time.monotonic()
  for operation in (lambda: storage.read_bytes(f'{gcs.url}/f', timeout=0.2),
                    lambda: storage.write_bytes(f'{gcs.url}/f', b'', timeout=0.2),
                    lambda: storage.children(gcs.url, timeout=0.2)):
    with pytest.raises(StorageError, match=(
        r'no answer within 0\.2 s\. Check the connection')):
      operation()
  assert time.monotonic() - began < 10


def test_ranges_are_under_way_together(gcs):
  data = os.urandom(100_000)
  storage.write_bytes(f'{gcs.url}/f', data)
  gcs.proxy.reset()
  gcs.proxy.latency = 0.2
  wanted = [storage.Range(f'{gcs.url}/f', i, i + 1000) for i in range(0, 60_000, 1000)]
  began = time.monotonic()
  assert storage.read_ranges(wanted) == [data[r.start:r.stop] for r in wanted]
  # One after the other they would take 12 s.
  assert time.monotonic() - began < 4
  assert gcs.proxy.count() == 60
  assert gcs.proxy.traffic() == (0, 60_000)


def test_a_store_that_cannot_be_reached_is_told(tmp_path):
  """In a process of its own, for TensorStore remembers addresses."""
  code = '''
from vit_jax.runtime import storage
from vit_jax.runtime.storage import objects
objects._RETRIES.update(max_retries=1)
for operation in (lambda: storage.read_bytes('gs://bucket/f'),
                  lambda: storage.read_bytes('s3://bucket/f')):
  try:
    operation()
  except storage.StorageError as e:
    print(e)
'''
  # A port that nobody listens at.
  environment = {**os.environ, 'TENSORSTORE_GCS_HTTP_URL': 'http://127.0.0.1:1',
                 'AWS_ENDPOINT_URL': 'http://127.0.0.1:1', 'AWS_ACCESS_KEY_ID': 'x',
                 'AWS_SECRET_ACCESS_KEY': 'x', 'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'x'}
  done = subprocess.run([sys.executable, '-c', code], env=environment, text=True,
                        capture_output=True, timeout=60, check=True)
  lines = done.stdout.splitlines()
  assert len(lines) == 2
  for line, url in zip(lines, ('gs://bucket/f', 's3://bucket/f'), strict=True):
    assert line.startswith(f'Cannot read {url}: the store cannot be reached: ')
    assert 'Could not connect to server' in line
    assert line.endswith('Check the connection of this machine, and its proxy and DNS '
                         'settings.')


def test_a_package_that_is_not_there_is_named(monkeypatch):
  import fsspec
  def refuse(*unused, **unused_too):
    raise ImportError('Please install gcsfs')
  monkeypatch.setattr(fsspec, 'filesystem', refuse)
  listings._file_system.cache_clear()
  with pytest.raises(UserError, match=r"need the package gcsfs.*'vit_jax\[gcs\]'"):
    storage.children('gs://bucket/f')


def test_disks_with_trouble_are_told(tmp_path, monkeypatch):
  with pytest.raises(StorageError, match='Cannot write to .*: File name too long. Give '
                                         'a shorter path'):
    storage.write_bytes(tmp_path / ('x' * 300), b'')
  with pytest.raises(StorageError, match='Cannot read .*: File name too long'):
    storage.read_bytes(tmp_path / ('x' * 300))
  with pytest.raises(StorageError, match='Cannot write to .*: No such file or dir'):
    storage.write_bytes(tmp_path / 'none' / 'f', b'')
  with pytest.raises(StorageError, match='Cannot read .*: Is a directory'):
    storage.read_bytes(tmp_path)
  with pytest.raises(StorageError, match='Cannot read .*: embedded null byte'):
    storage.read_bytes(f'{tmp_path}/a\0b')
  assert not storage.exists(f'{tmp_path}/a\0b')
  def full(*unused):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(storage.disk.os, 'fsync', full)
  storage.write_bytes(tmp_path / 'f', b'old', durable=False)
  for operation in (lambda: storage.write_bytes(tmp_path / 'f', b'new'),
                    lambda: storage.create(tmp_path / 'g', b'new')):
    with pytest.raises(StorageError, match='No space left on device. Make room'):
      operation()
  assert storage.read_bytes(tmp_path / 'f') == b'old'
  assert os.listdir(tmp_path) == ['f']


def test_disks_without_hard_links_create_too(tmp_path, monkeypatch):
  def refuse(*unused):
    raise OSError(95, 'Operation not supported')
  monkeypatch.setattr(storage.disk.os, 'link', refuse)
  assert storage.create(tmp_path / 'f', b'1')
  assert not storage.create(tmp_path / 'f', b'2')
  assert storage.read_bytes(tmp_path / 'f') == b'1'
  def full(*unused):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(storage.disk.os, 'fsync', full)
  with pytest.raises(StorageError, match='No space left'):
    storage.create(tmp_path / 'g', b'1', durable=False)
  assert os.listdir(tmp_path) == ['f']
