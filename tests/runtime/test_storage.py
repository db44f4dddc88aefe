"""The same promises on a disk and in every store, and what is said when one fails."""

import concurrent.futures
import os

import pytest

from vit_jax.runtime import storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.storage import StorageError

PLACES = ('disk', 'memory', 'gs', 's3')


@pytest.fixture(params=PLACES)
def root(request, tmp_path):
  if request.param == 'disk':
    return str(tmp_path)
  if request.param == 'memory':
    return f'memory://{tmp_path.name}'
  return request.getfixturevalue({'gs': 'gcs', 's3': 's3'}[request.param]).url


def test_files_are_written_read_and_deleted(root):
  path = storage.join(root, 'a', 'ä b+c%20.txt')
  assert not storage.exists(path)
  with pytest.raises(FileNotFoundError):
    storage.read_bytes(path)
  storage.make_folder(storage.join(root, 'a'))
  storage.write_text(path, 'Größe\n')
  storage.write_json(storage.join(root, 'a', 'x.json'), {'x': [1, None]})
  assert storage.read_text(path) == 'Größe\n'
  assert storage.read_json(storage.join(root, 'a', 'x.json')) == {'x': [1, None]}
  storage.write_bytes(path, b'')
  assert storage.exists(path) and storage.read_bytes(path, limit=0) == b''
  storage.delete(path)
  storage.delete(path)
  assert not storage.exists(path)


def test_names_of_folders_are_listed(root):
  for name in ('f', 'a/1', 'a/b/2', 'a/b/3', 'ab/4'):
    storage.make_folder(os.path.dirname(storage.join(root, name)))
    storage.write_text(storage.join(root, name), name)
  assert storage.children(root) == ['a', 'ab', 'f']
  assert storage.children(storage.join(root, 'a')) == ['1', 'b']
  assert storage.below(storage.join(root, 'a')) == ['1', 'b/2', 'b/3']
  assert storage.below(root) == ['a/1', 'a/b/2', 'a/b/3', 'ab/4', 'f']
  for nothing in ('none', 'f/x' if root.startswith(('gs', 's3', 'mem')) else 'none/x'):
    assert storage.children(storage.join(root, nothing)) == []
    assert storage.below(storage.join(root, nothing)) == []
  assert storage.is_folder(storage.join(root, 'a'))
  assert not storage.is_folder(storage.join(root, 'f'))
  assert not storage.is_folder(storage.join(root, 'none'))
  assert not storage.exists(storage.join(root, 'a'))
  storage.delete_tree(storage.join(root, 'a'))
  storage.delete_tree(storage.join(root, 'a'))
  assert storage.below(root) == ['ab/4', 'f']


def test_a_listing_is_never_a_remembered_one(root):
  """As it would be from the libraries' caches."""
  for i in range(3):
    assert len(storage.children(root)) == i
    storage.write_text(storage.join(root, str(i)), 'x')


def test_size_and_version_tell_of_changes(root):
  path = storage.join(root, 'f')
  with pytest.raises(FileNotFoundError):
    storage.stat(path)
  storage.write_bytes(path, bytes(1000))
  before = storage.stat(path)
  assert before.size == 1000 and storage.stat(path) == before
  storage.write_bytes(path, bytes(999) + b'x')
  after = storage.stat(path)
  assert after.size == 1000 and after.version != before.version


def test_one_of_many_creates_a_file(root):
  def create(data, path):
    return storage.create(path, data)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for n in range(5):
      path = storage.join(root, str(n))
      data = [f'{i} of 8'.encode() for i in range(8)]
      told = list(pool.map(create, data, [path] * 8))
      assert sum(told) == 1
      assert storage.read_bytes(path) == data[told.index(True)]
      assert not storage.create(path, b'later')
      assert storage.read_bytes(path) == data[told.index(True)]


def test_no_update_is_lost(root):
  path = storage.join(root, 'count')
  def count(unused):
    storage.update(path, lambda old: str(int(old or 0) + 1).encode())
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(count, range(20)))
  assert storage.read_text(path) == '20'
  assert storage.update(path, lambda old: old or b'') == b'20'


def test_many_ranges_are_read(root):
  path, other = storage.join(root, 'f'), storage.join(root, 'g')
  data = os.urandom(100_000)
  storage.write_bytes(path, data)
  storage.write_bytes(other, data[::-1])
  wanted = [storage.Range(path, i, i + 100) for i in range(0, 100_000, 500)]
  assert storage.read_ranges(wanted) == [data[r.start:r.stop] for r in wanted]
  assert storage.read_ranges(
      [storage.Range(other, 0, 3), storage.Range(path, 99_999, 100_000)]
  ) == [data[:-4:-1], data[-1:]]
  with pytest.raises(StorageError, match='Cannot read .*f: it ends before byte 1000'):
    storage.read_ranges([storage.Range(path, 99_990, 100_001)])
  with pytest.raises(FileNotFoundError):
    storage.read_ranges([storage.Range(storage.join(root, 'none'), 0, 1)])


def test_files_larger_than_the_limit_are_not_read(root):
  path = storage.join(root, 'f')
  storage.write_bytes(path, b'12345')
  assert storage.read_bytes(path, limit=5) == b'12345'
  with pytest.raises(StorageError, match='f: it has more than 4 bytes'):
    storage.read_bytes(path, limit=4)
  with pytest.raises(FileNotFoundError):
    storage.read_bytes(storage.join(root, 'none'), limit=4)


@pytest.mark.parametrize(('data', 'why'), [
    (b'\xff\xfe', r'no text in UTF-8 \(byte 0\)'),
    (b'{"a": 1', 'no JSON: '),
    (b'[' * 100_000, 'no JSON: it is nested too deeply'),
    (b'', 'no JSON: '),
    (b'9' * 5000, 'no JSON: Exceeds the limit'),
])
def test_damaged_text_is_explained(tmp_path, data, why):
  (tmp_path / 'f').write_bytes(data)
  with pytest.raises(StorageError, match=f'Cannot read .*f: it is {why}'):
    storage.read_json(tmp_path / 'f')


def test_a_log_grows(root):
  path = storage.join(root, 'log')
  log = storage.Log(path)
  log.append('1\n')
  log.commit()
  log.append('2\n')
  log.append('3\n')
  log.close()
  again = storage.Log(path)
  again.append('4\n')
  on_disk = '1\n2\n3\n4\n' if not storage.is_url(root) else '1\n2\n3\n'
  assert storage.read_text(path) == on_disk
  again.close()
  assert storage.read_text(path) == '1\n2\n3\n4\n'


def test_a_log_survives_a_failed_commit(gcs):
  log = storage.Log(f'{gcs.url}/log')
  log.append('1\n')
  gcs.proxy.fail(403, method='POST')
  with pytest.raises(StorageError, match='access denied'):
    log.commit()
  log.append('2\n')
  log.close()
  assert storage.read_text(f'{gcs.url}/log') == '1\n2\n'


@pytest.mark.parametrize(('path', 'why'), [
    ('http://host/x', 'unknown kind http://; expected a local path, or a URL of gs://'),
    ('gcs://b/x', 'Did you mean gs://'),
    ('gs:/bucket/x', 'one slash after gs:; expected two, as in gs://bucket/folder'),
    ('gs://', 'names no bucket; expected gs://bucket/folder'),
    ('gs:///x', 'names no bucket'),
    ('gs://bucket/a/../b', r'has a part \.\.'),
    ('file://host/x', 'names another machine; expected file:///'),
    ('gs://bucket', 'Cannot read gs://bucket: it is a bucket'),
    ('gs://B_ad_/x', 'Cannot open gs://B_ad_/x: the store refuses it: .*bucket name'),
    (f'gs://bucket/{"x" * 1100}', 'the store refuses it: .*object name'),
])
def test_paths_that_name_nothing_are_explained(path, why):
  with pytest.raises(UserError, match=why):
    storage.read_bytes(path)


def test_urls_of_files_are_paths(tmp_path):
  storage.write_text(f'file://{tmp_path}/a%20b', 'x')
  assert (tmp_path / 'a b').read_text() == 'x'
  assert storage.local_path(f'file://{tmp_path}') == tmp_path
  with pytest.raises(UserError, match='expected a path on a disk'):
    storage.local_path('gs://b/x')


def test_slashes_too_many_are_dropped(gcs):
  storage.write_text(f'{gcs.url}//a//b/', 'x')
  assert storage.below(f'{gcs.url}/') == ['a/b']
  assert storage.join(f'{gcs.url}/', 'a', 'b/') == f'{gcs.url}/a/b'
