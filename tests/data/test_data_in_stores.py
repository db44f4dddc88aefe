"""Data in object stores: the batches of a local copy, and faults that are told."""

import itertools
import pathlib
import shutil

import numpy as np
import pytest

from vit_jax.config.sections import DataSection, PreprocessSection
from vit_jax.data import folder_listing, open_input, ordering, store_metadata
from vit_jax.data.order import GlobalOrder
from vit_jax.data.records import store_files, stored_index
from vit_jax.data.run_order import RunOrder
from vit_jax.runtime import storage
from vit_jax.runtime.errors import DataError, UserError
from vit_jax.runtime.storage import StorageError, objects, ranges

pytestmark = pytest.mark.slow

INCEPTION = PreprocessSection(crop='inception')
# Nothing fits, so that records are read by ranges.
LARGE = dict(cache='never', cache_limit_gib=0.0, window_gib=1e-9)


@pytest.fixture(autouse=True)
def impatient(monkeypatch, tmp_path):
  """Retries follow each other at once, runs have a few records, nothing is kept."""
  def forget():
    for cached in (objects._context, objects._opened, store_metadata.local_copy,
                   folder_listing.list_objects):
      cached.cache_clear()
  monkeypatch.setattr(objects, '_RETRIES', {'max_retries': 6, 'initial_delay': '5ms'})
  monkeypatch.setattr(ordering, '_RUN', 8000)
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'cache'))
  forget()
  yield
  forget()


@pytest.fixture(params=['gs', 's3'])
def store(request):
  return request.getfixturevalue({'gs': 'gcs', 's3': 's3'}[request.param])


def upload(folder, url):
  """Copies a folder into a store, and returns its URL."""
  for path in sorted(pathlib.Path(folder).rglob('*')):
    if path.is_file():
      storage.write_bytes(
          storage.join(url, *path.relative_to(folder).parts), path.read_bytes())
  return url


def imagenet(folder, **options):
  return DataSection('imagenet2012', str(folder), image_size=(24, 24), train=INCEPTION,
                     **{'cache': 'never', **options})


def shard(folder, n=1):
  return sorted(pathlib.Path(folder).rglob('*-train.tfrecord-*'))[n]


def shard_url(url, local, n=1):
  return storage.join(url, *shard(local, n).relative_to(local).parts)


def batches(data, steps=9, start=0, rows=range(8), split='train'):
  reader = open_input(data, split, train=True).start()
  return stacked(itertools.islice(
      reader.train_batches(3, 8, np.array(rows), start), steps - start))


def stacked(found):
  found = list(found)
  return {key: np.stack([b[key] for b in found]) for key in found[0]}


def evaluated(data, split='validation'):
  return stacked(open_input(data, split, train=False).start().eval_batches(4, range(4)))


def assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for key in found:
    np.testing.assert_array_equal(found[key], expected[key])


@pytest.mark.parametrize('options', [
    {}, dict(order='runs'), dict(order='global', **LARGE), dict(order='runs', **LARGE)],
    ids=['whole', 'whole, runs', 'ranges, global', 'ranges, runs'])
def test_tfds_gives_the_batches_of_a_local_copy(imagenet_shards, store, options):
  url = upload(imagenet_shards, f'{store.url}/data/')
  local = {**options, 'order': options.get('order', 'global')}
  expected = batches(imagenet(imagenet_shards, **local))
  assert_equal(batches(imagenet(url, **options)), expected)
  assert_equal(evaluated(imagenet(url, **options)),
               evaluated(imagenet(imagenet_shards, **local)))


def test_folder_gives_the_batches_of_a_local_copy(folder, store):
  (folder / '.hidden').mkdir()
  url = upload(folder, f'{store.url}/images')
  def data(place):
    return DataSection('folder', str(place), image_size=(24, 24), train=INCEPTION,
                       cache='never')
  assert_equal(batches(data(url)), batches(data(folder)))
  assert_equal(evaluated(data(url), 'test'), evaluated(data(folder), 'test'))


def test_cached_split_gives_the_batches_of_a_local_copy(cifar_dir, gcs):
  url = upload(cifar_dir, f'{gcs.url}/data')
  def data(place):
    return DataSection('cifar10', str(place), image_size=(32, 32))
  assert_equal(batches(data(url)), batches(data(cifar_dir)))


def test_resumed_in_the_middle_of_an_epoch(imagenet_shards, store):
  data = imagenet(upload(imagenet_shards, f'{store.url}/data'), order='runs', **LARGE)
  whole = batches(data, steps=13)
  for start in (1, 5, 12):
    assert_equal(batches(data, 13, start), {k: v[start:] for k, v in whole.items()})


@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_read_the_rows_of_one_batch(imagenet_shards, gcs, hosts):
  data = imagenet(upload(imagenet_shards, f'{gcs.url}/data'), order='runs', **LARGE)
  whole = batches(data)
  parts = [batches(data, rows=rows) for rows in np.split(np.arange(8), hosts)]
  assert_equal({key: np.concatenate([part[key] for part in parts], 1)
                for key in whole}, whole)


def test_each_byte_is_read_about_once_an_epoch(imagenet_shards, gcs, monkeypatch):
  monkeypatch.setattr(stored_index, 'STORED_FROM', 1)
  data = imagenet(upload(imagenet_shards, f'{gcs.url}/data'), order='runs', **LARGE)
  open_input(data, 'train', train=True).source.check_files()  # Makes the index.
  size = sum(shard(imagenet_shards, n).stat().st_size for n in range(3))
  gcs.proxy.reset()
  for rows in np.split(np.arange(8), 2):
    batches(data, steps=15 * 24 // 8, rows=rows)
  read = sum(seen.sent for seen in gcs.proxy.seen if 'alt=media' in seen.path)
  # Of 15 epochs. Some of the next have been read, too; and a run that two epochs have
  # one shortly after the other is read once.
  assert 9 <= read / size <= 18


def test_auto_says_which_order_it_took(imagenet_shards, gcs):
  url = upload(imagenet_shards, f'{gcs.url}/data')
  def chosen(data):
    source = open_input(data, 'train', train=True).source
    return type(ordering.choose_order(data, source)(0, 8))
  assert chosen(imagenet(url)) is GlobalOrder
  assert chosen(imagenet(url, cache_limit_gib=0.0)) is RunOrder
  assert chosen(imagenet(imagenet_shards, cache_limit_gib=0.0)) is GlobalOrder


def test_small_split_is_read_once(imagenet_shards, gcs):
  data = imagenet(upload(imagenet_shards, f'{gcs.url}/data'))
  gcs.proxy.reset()
  batches(data, steps=12)
  size = sum(shard(imagenet_shards, n).stat().st_size for n in range(3))
  read = sum(seen.sent for seen in gcs.proxy.seen
             if 'train.tfrecord' in seen.path and 'alt=media' in seen.path)
  assert read == size


def test_index_is_kept(imagenet_shards, gcs, monkeypatch):
  monkeypatch.setattr(stored_index, 'STORED_FROM', 1)
  data = imagenet(upload(imagenet_shards, f'{gcs.url}/data'), **LARGE)
  def read():
    gcs.proxy.reset()
    open_input(data, 'train', train=True).source.check_files()
    return gcs.proxy.count(match='tfrecord.*alt=media')
  assert read() == 3 and read() == 0


@pytest.mark.parametrize('options', [{}, dict(order='runs', **LARGE)],
                         ids=['whole', 'ranges'])
def test_trouble_that_passes(imagenet_shards, store, options):
  data = imagenet(upload(imagenet_shards, f'{store.url}/data'), **options)
  expected = batches(data)
  store.proxy.fail(503, times=4, match='tfrecord')
  store.proxy.fail(429, times=2, match='tfrecord')
  store.proxy.cut(after=100, times=2, match='tfrecord')
  assert_equal(batches(data), expected)
  assert store.proxy.count(match='tfrecord') > 8


def test_stalled_request_is_made_again(imagenet_shards, gcs, monkeypatch):
  monkeypatch.setattr(ranges, '_STALLED', 1.0)
  data = imagenet(upload(imagenet_shards, f'{gcs.url}/data'), order='runs', **LARGE)
  expected = batches(data)
  reader = open_input(data, 'train', train=True).start()
  gcs.proxy.stall(match='tfrecord.*alt=media')
  found = stacked(itertools.islice(reader.train_batches(3, 8, np.arange(8)), 9))
  assert_equal(found, expected)


@pytest.mark.parametrize('status,told', [
    (403, r'access denied \(403\)'), (503, 'still answers 503 after retries')])
def test_trouble_that_stays_is_told(imagenet_shards, store, status, told):
  data = imagenet(upload(imagenet_shards, f'{store.url}/data'), order='runs',
                  max_bad_records=20, **LARGE)
  reader = open_input(data, 'train', train=True).start()
  store.proxy.fail(status, times=10_000, match='tfrecord')
  # No record is to blame, so none is skipped.
  with pytest.raises(StorageError, match=told):
    next(reader.train_batches(3, 8, np.arange(8)))


def test_missing_shard(imagenet_shards, store):
  url = upload(imagenet_shards, f'{store.url}/data')
  storage.delete(shard_url(url, imagenet_shards))
  with pytest.raises(DataError, match='cannot be opened .there is no such object'):
    open_input(imagenet(url), 'train', train=True).start()


def test_cut_shard(imagenet_shards, store):
  url = upload(imagenet_shards, f'{store.url}/data')
  path = shard_url(url, imagenet_shards)
  storage.write_bytes(path, storage.read_bytes(path)[:-20])
  for options in ({}, LARGE):
    with pytest.raises(DataError, match='is cut off or damaged'):
      open_input(imagenet(url, **options), 'train', train=True).start()


@pytest.mark.parametrize('change', [
    lambda raw: raw[:len(raw) // 2], lambda raw: raw[100:] + raw[:100], None])
def test_shard_that_changes_during_a_run(imagenet_shards, store, change):
  url = upload(imagenet_shards, f'{store.url}/data')
  data = imagenet(url, order='runs', max_bad_records=24, **LARGE)
  reader = open_input(data, 'train', train=True).start()
  for n in range(3):
    path = shard_url(url, imagenet_shards, n)
    if change is None:
      storage.delete(path)
    else:
      storage.write_bytes(path, change(storage.read_bytes(path)))
  with pytest.raises(UserError, match='has (changed|been deleted) since this run'):
    next(reader.train_batches(3, 8, np.arange(8)))


@pytest.mark.parametrize('options', [{}, dict(order='runs', **LARGE)],
                         ids=['whole', 'ranges'])
def test_bad_records_are_skipped_as_on_disks(imagenet_shards, gcs, tmp_path, options):
  shutil.copytree(imagenet_shards, tmp_path / 'copy')
  path = shard(tmp_path / 'copy')
  raw = bytearray(path.read_bytes())
  raw[len(raw) // 2] ^= 1
  path.write_bytes(raw)
  url = upload(tmp_path / 'copy', f'{gcs.url}/data')
  local = {'order': 'global', **options, 'max_bad_records': 1}
  assert_equal(batches(imagenet(url, **{**options, 'max_bad_records': 1})),
               batches(imagenet(tmp_path / 'copy', **local)))
  with pytest.raises(DataError, match=f'{path.name}, record .*checksum'):
    batches(imagenet(url, **options))


def test_no_such_data_set(gcs, imagenet_shards):
  url = upload(imagenet_shards, f'{gcs.url}/data')
  data = DataSection('cifar10', url)
  with pytest.raises(UserError, match=f'cifar10 is not prepared in {url}'):
    open_input(data, 'train', train=True)
  with pytest.raises(UserError, match='there is no bucket nothing'):
    open_input(DataSection('cifar10', f'{gcs.scheme}://nothing/x'), 'train', train=True)


def test_memory_is_given_back(imagenet_shards):
  url = upload(imagenet_shards, 'memory://data')
  data = imagenet(url, order='runs', **LARGE)
  source = open_input(data, 'train', train=True).source
  files = source._examples._files
  assert isinstance(files, store_files.StoreRecordFiles)
  source.hold(((0, 5), (0, 5), (7, 9)))
  assert sum(piece.stop - piece.first for piece in files._held) == 7
  kept = dict(files._held)
  source.hold(((7, 9), (7, 9)))
  assert sum(piece.stop - piece.first for piece in files._held) == 2
  assert kept.items() >= files._held.items()


def test_neighbours_are_one_request(imagenet_shards, monkeypatch):
  data = imagenet(upload(imagenet_shards, 'memory://data'), order='global', **LARGE)
  source = open_input(data, 'train', train=True).source
  records = np.array([3, 4, 5, 5, 2, 7, 8, 9, 0])
  expected = [source.read(i) for i in records]
  asked, read_ranges = [], storage.read_ranges
  def note(spans):
    asked.append(len(spans))
    return read_ranges(spans)
  monkeypatch.setattr(storage, 'read_ranges', note)
  images, labels = source.read_many(records)
  assert list(zip(images, labels.tolist(), strict=True)) == expected
  # Eight records a file: 3 4 5, 5, 2, 7, 8 9, 0.
  assert asked == [6]
