"""Record files: bounded descriptors, and indexes that are kept."""

import os
import pathlib
import struct
import subprocess
import sys

import google_crc32c
import numpy as np
import pytest

from vit_jax.data.records import stored_index
from vit_jax.data.records.index import Shard
from vit_jax.data.records.open_files import Descriptor, OpenFiles
from vit_jax.data.records.tfrecords import TfRecordFiles
from vit_jax.runtime.errors import DataError


def masked(data):
  crc = google_crc32c.value(data)
  return struct.pack('<I', (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff)


def write_shard(path, records):
  with path.open('wb') as file:
    for record in records:
      length = struct.pack('<Q', len(record))
      file.write(length + masked(length) + record + masked(record))


def write_shards(folder, shards, records, size=20):
  """Shards of records that differ; returns (paths, counts, the records by shard)."""
  rng = np.random.default_rng(0)
  paths, written = [], []
  for i in range(shards):
    written.append([rng.bytes(int(rng.integers(1, 2 * size))) for _ in range(records)])
    paths.append(str(folder / f'{i:05d}'))
    write_shard(folder / f'{i:05d}', written[-1])
  return paths, [records] * shards, written


@pytest.fixture
def kept(tmp_path, monkeypatch):
  """Indexes are kept in a folder of the test, however small."""
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(stored_index, 'STORED_FROM', 1)
  (tmp_path / 'data').mkdir()
  return tmp_path / 'data'


def everything(files, shards, records):
  file, record = np.divmod(np.arange(shards * records), records)
  return list(files.read(file, record))


@pytest.mark.parametrize('size', [20, 40_000])
def test_records_large_and_small(tmp_path, size):
  paths, counts, written = write_shards(tmp_path, 3, 7, size)
  files = TfRecordFiles(paths, counts)
  assert everything(files, 3, 7) == sum(written, [])


def test_empty_shard(tmp_path):
  paths, _, written = write_shards(tmp_path, 2, 4)
  (tmp_path / 'none').write_bytes(b'')
  files = TfRecordFiles([paths[0], str(tmp_path / 'none'), paths[1]], [4, 0, 4])
  assert list(files.read(np.array([2, 0]), np.array([1, 3]))) == [
      written[1][1], written[0][3]]


_MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import numpy as np
from concurrent import futures
from vit_jax.data.records.tfrecords import TfRecordFiles
files = TfRecordFiles([f'{sys.argv[1]}/{i:05d}' for i in range(1100)], [2] * 1100)
rng = np.random.default_rng(0)
def read(_):
  return sum(map(len, files.read(rng.permutation(1100), rng.integers(0, 2, 1100))))
with futures.ThreadPoolExecutor(8) as pool:
  assert all(pool.map(read, range(8)))
"""


def test_more_shards_than_descriptors(tmp_path):
  write_shards(tmp_path, 1100, 2)
  subprocess.run([sys.executable, '-c', _MANY, str(tmp_path)], check=True)


def test_the_files_used_last_stay_open(tmp_path):
  for name in 'abc':
    (tmp_path / name).write_bytes(name.encode())
  opened = []
  def open_file(path):
    opened.append(pathlib.Path(path).name)
    return Descriptor(path)
  files = OpenFiles(open_file, limit=2)
  first = files.get(str(tmp_path / 'a'))
  for name in 'bacab':
    assert files.get(str(tmp_path / name)).read(0, 9) == name.encode()
  assert opened == ['a', 'b', 'c', 'b']
  files.get(str(tmp_path / 'c'))
  # Dropped, but still being read by somebody.
  assert first.read(0, 1) == b'a'


def test_second_start_walks_through_no_file(kept, monkeypatch):
  paths, counts, written = write_shards(kept, 3, 5)
  everything(TfRecordFiles(paths, counts), 3, 5)
  def refuse(*unused):
    raise AssertionError('a file was walked through')
  monkeypatch.setattr('vit_jax.data.records.tfrecords._walk', refuse)
  assert everything(TfRecordFiles(paths, counts), 3, 5) == sum(written, [])


def test_a_changed_shard_alone_is_walked_through_again(kept, monkeypatch):
  paths, counts, written = write_shards(kept, 3, 5)
  everything(TfRecordFiles(paths, counts), 3, 5)
  written[1] = [b'x' * (i + 1) for i in range(5)]
  write_shard(kept / '00001', written[1])
  from vit_jax.data.records import tfrecords
  walked, walk = [], tfrecords._walk
  def note(shard):
    walked.append(pathlib.Path(shard.path).name)
    return walk(shard)
  monkeypatch.setattr(tfrecords, '_walk', note)
  assert everything(TfRecordFiles(paths, counts), 3, 5) == sum(written, [])
  assert walked == ['00001']
  everything(TfRecordFiles(paths, counts), 3, 5)
  assert walked == ['00001']


def test_a_shard_cut_off_since_is_told(kept):
  paths, counts, _ = write_shards(kept, 2, 5)
  everything(TfRecordFiles(paths, counts), 2, 5)
  path = kept / '00001'
  path.write_bytes(path.read_bytes()[:-3])
  with pytest.raises(DataError, match='00001 is cut off or damaged: record 4'):
    TfRecordFiles(paths, counts).check()


@pytest.mark.parametrize('content', [b'', b'PK no archive', None])
def test_a_damaged_index_is_made_again(kept, content):
  paths, counts, written = write_shards(kept, 2, 5)
  shards = [Shard(path, 5, os.stat(path).st_size, '') for path in paths]
  path = stored_index.index_path(shards)
  everything(TfRecordFiles(paths, counts), 2, 5)
  path.write_bytes(path.read_bytes()[:-30] if content is None else content)
  assert everything(TfRecordFiles(paths, counts), 2, 5) == sum(written, [])
  with np.load(path) as arrays:
    assert arrays['lengths'].tolist() == [6, 6]


def test_a_cache_that_cannot_be_written(kept, tmp_path, monkeypatch, capsys):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'file'))
  paths, counts, written = write_shards(kept, 2, 5)
  assert everything(TfRecordFiles(paths, counts), 2, 5) == sum(written, [])
  assert 'VIT_JAX_CACHE' in capsys.readouterr().err
