"""A process that cannot save releases those that wait for it."""

import threading

import pytest

from vit_jax.parallel.save_barrier import PeerFailed, SaveBarrier

_AFTER = 'ThreadSaveMultiHostValueHolder:set_value_start'


# Against hanging alone; nothing here takes so long.
HANGS = 120
# Of barriers that nobody should wait at until it is over.
LONG_MS = 600_000


class Client:
  """The key-value calls of JAX's DistributedRuntimeClient."""

  def __init__(self):
    self.values = {}
    self._lock = threading.Lock()
    # Released by every look at a directory.
    self.looks = threading.Semaphore(0)

  def key_value_set(self, key, value):
    with self._lock:
      assert key not in self.values, 'JAX refuses to overwrite'
      self.values[key] = value

  def key_value_dir_get(self, directory):
    self.looks.release()
    with self._lock:
      return [(k, v) for k, v in self.values.items() if k.startswith(directory)]

  def key_value_delete(self, directory):
    with self._lock:
      for key in [k for k in self.values if k.startswith(directory)]:
        del self.values[key]


def _visit(keys_of_processes, client=None, timeout_ms=LONG_MS):
  """What every process's visits to its keys, in their order, ended with."""
  client = client or Client()
  size = len(keys_of_processes)
  barriers = [SaveBarrier('test', client, i, size) for i in range(size)]
  results = [[] for _ in range(size)]

  def one(i):
    for key in keys_of_processes[i]:
      try:
        barriers[i](key=key, timeout_ms=timeout_ms)
        results[i].append('passed')
      except (PeerFailed, TimeoutError) as e:
        results[i].append(e)
  _in_threads([lambda i=i: one(i) for i in range(size)])
  return results


def _in_threads(functions):
  threads = [threading.Thread(target=f, daemon=True) for f in functions]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(HANGS)
    assert not thread.is_alive(), 'it hangs'


def test_all_pass_again_and_again():
  keys = [_AFTER, '_async_write_complete.1', '_async_commit_complete.1', _AFTER] * 6
  client = Client()
  assert _visit([keys] * 3, client) == [['passed'] * 24] * 3
  # What has been passed long ago is forgotten.
  assert len(client.values) <= 3 * 17


def test_nobody_passes_before_all_came():
  client = Client()
  first, second = (SaveBarrier('test', client, i, 2) for i in range(2))
  passed = []
  thread = threading.Thread(daemon=True, target=lambda: (
      first(key='k', timeout_ms=LONG_MS), passed.append(1)))
  thread.start()
  # It has looked, and looked again.
  for _ in range(3):
    assert client.looks.acquire(timeout=HANGS)
  assert not passed
  second(key='k', timeout_ms=LONG_MS)
  thread.join(HANGS)
  assert passed


def test_failed_writer_releases_the_others_who_go_on_together():
  good = [_AFTER, '_async_write_complete.1', _AFTER, 'next']
  bad = [_AFTER, _AFTER, 'next']
  # Not by the timeout, which is longer than a test may hang.
  results = _visit([good, bad, good])
  assert results[1] == ['passed'] * 3
  for mine in (results[0], results[2]):
    assert isinstance(mine[1], PeerFailed) and 'process 1 could not' in str(mine[1])
    assert [mine[0], *mine[2:]] == ['passed'] * 3


def test_failed_commit_of_process_0_releases_the_others():
  results = _visit([
      [_AFTER, '_async_write_complete.1', _AFTER],
      [_AFTER, '_async_write_complete.1', '_async_commit_complete.1', _AFTER]])
  assert results[0] == ['passed'] * 3
  assert isinstance(results[1][2], PeerFailed) and results[1][3] == 'passed'


def test_missing_process_is_named_after_the_timeout():
  [[error], []] = _visit([['_async_write_complete.1'], []], timeout_ms=600)
  assert isinstance(error, TimeoutError) and 'process 1 did not come' in str(error)


def test_names_are_those_that_orbax_uses():
  # Under other names a failed save would still end, but only after the timeout.
  import inspect

  from orbax.checkpoint._src.checkpointers import async_checkpointer
  from orbax.checkpoint._src.futures import synchronization
  from orbax.checkpoint._src.multihost import multihost
  source = inspect.getsource(async_checkpointer)
  assert "'async_write_complete'" in source and "'async_commit_complete'" in source
  assert _AFTER in inspect.getsource(synchronization)
  # The AsyncCheckpointer's prefix is '', which still adds a separator.
  key = multihost.unique_barrier_key('async_write_complete', prefix='', suffix='5')
  assert key == '_async_write_complete.5'


@pytest.mark.parametrize('size', [1, 2])
def test_keys_of_two_barriers_do_not_meet(size):
  client = Client()
  for name in ('a', 'b'):
    barriers = [SaveBarrier(name, client, i, size) for i in range(size)]
    _in_threads([lambda b=b: b(key='k', timeout_ms=LONG_MS) for b in barriers])
