"""One holder of a folder, whoever dies; clocks and machines are made up here."""

import dataclasses
import os
import threading

import pytest

from vit_jax.runtime import lease, process_identity, storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.lease import files as files_lib
from vit_jax.runtime.lease import record as record_lib
from vit_jax.runtime.process_identity import ProcessIdentity

# The test gives the signs of life.
BY_HAND = lease.Timing(validity=60, renew_every=1e6)


class Machine:
  """Made-up surroundings with clocks that the test moves."""

  def __init__(self, host, on_sleep=None):
    self.uptime, self.wall, self.said = 1000.0, 1.79e9, []
    self._on_sleep = on_sleep
    self.surroundings = lease.Surroundings(
        ProcessIdentity(host, 7, f'kernel of {host}', '5'), lambda: self.uptime,
        lambda: self.wall, self.sleep)

  def pass_time(self, seconds):
    self.uptime += seconds
    self.wall += seconds

  def sleep(self, seconds):
    self.pass_time(seconds)
    if self._on_sleep:
      self._on_sleep()

  def acquire(self, folder, timing=BY_HAND, on_lost=None):
    return lease.acquire(folder, timing, say=self.said.append, on_lost=on_lost,
                         surroundings=self.surroundings)


@pytest.fixture(params=['disk', 'memory', 'gs', 's3'])
def folder(request, tmp_path):
  if request.param == 'disk':
    return str(tmp_path / 'run')
  if request.param == 'memory':
    return f'memory://{tmp_path.name}/run'
  return request.getfixturevalue({'gs': 'gcs', 's3': 's3'}[request.param]).url + '/run'


@pytest.fixture
def quick(tmp_path):
  """A folder for tests that are about time."""
  return f'memory://{tmp_path.name}/run'


def test_a_folder_is_held_and_released(folder):
  with lease.acquire(folder) as held:
    assert not held.lost
    held.check()
    with pytest.raises(UserError, match=(
        rf'run is in use by process {os.getpid()} on \S+ since \d+-\d+-\d+ \d+:\d+:\d+ '
        r'UTC \(last sign of life: \d s ago\)\. Two runs in one directory')):
      lease.acquire(folder)
  with lease.acquire(folder) as again:
    held.release()  # A second time: nothing.
    assert not again.lost
  hidden = [name for name in storage.children(folder) if not name.startswith('.')]
  assert hidden == []


def test_a_sign_of_life_is_seen_from_another_machine(folder):
  holder = Machine('one')
  with holder.acquire(folder) as held:
    other = Machine('two', on_sleep=held.renew)
    with pytest.raises(UserError, match=(
        r'is in use by process 7 on one since .* \(last sign of life: just now\)')):
      other.acquire(folder)
    assert other.said == [
        f'{folder} was last held by process 7 on one. Waiting for at most 60 s to see '
        'whether that still runs.']
    assert not held.lost


def test_a_silent_holder_is_relieved_and_knows(folder):
  holder = Machine('one')
  held = holder.acquire(folder)
  other = Machine('two', on_sleep=lambda: None)
  with other.acquire(folder) as taken:
    assert 60 <= other.uptime - 1000 < 70
    held.renew()
    with pytest.raises(lease.LeaseLost, match=(
        'does not hold .*run any more: process 7 on two has taken it over')):
      held.check()
    held.release()
    taken.renew()
    assert not taken.lost


def test_a_release_is_seen_by_who_waits(quick):
  held = Machine('one').acquire(quick)
  other = Machine('two', on_sleep=held.release)
  with other.acquire(quick):
    assert other.uptime - 1000 < 5


def test_only_the_holders_promise_counts(quick):
  Machine('one').acquire(quick, lease.Timing(300, 1e6))
  other = Machine('two')
  with other.acquire(quick):
    assert other.uptime - 1000 >= 300


def test_clocks_of_other_machines_mean_nothing(quick):
  holder = Machine('one')
  holder.wall, holder.uptime = 5.0, 9e9
  with holder.acquire(quick) as held:
    for wall, uptime in ((4e9, 1.0), (0.0, 9e12)):
      other = Machine('two', on_sleep=held.renew)
      other.wall, other.uptime = wall, uptime
      with pytest.raises(UserError, match='just now'):
        other.acquire(quick)


def test_a_holder_that_cannot_give_a_sign_counts_itself_out(gcs):
  holder, told = Machine('one'), []
  held = holder.acquire(f'{gcs.url}/run')
  holder.pass_time(40)
  held.renew()
  gcs.proxy.fail(403, times=1000)
  holder.pass_time(40)
  held.renew()
  assert not held.lost
  holder.pass_time(6)
  with pytest.raises(lease.LeaseLost, match=(
      r'it could give no sign of life for 46 s \(Cannot read .*access denied')):
    held.check()
  gcs.proxy.reset()
  held.renew()
  assert held.lost and not told
  # Before anybody else would have taken over.
  assert holder.uptime - 1040 < 60


def test_a_sign_of_life_that_took_too_long_is_none(quick, monkeypatch):
  """It may have come after the last look of who waited."""
  holder = Machine('one')
  held = holder.acquire(quick)
  monkeypatch.setattr(files_lib.storage, 'touch',
                      lambda *unused: holder.pass_time(50))
  held.renew()
  assert held.lost


def test_a_machine_that_slept_has_lost(quick):
  holder = Machine('one')
  held = holder.acquire(quick)
  holder.uptime += 46
  assert held.lost


def test_the_thread_gives_signs_of_life_and_tells_of_the_loss(folder):
  lost = threading.Event()
  held = lease.acquire(folder, lease.Timing(validity=60, renew_every=0.05),
                       on_lost=lambda error: lost.set())
  files = files_lib.LeaseFiles(folder, 60)
  first = files.newest()
  end = threading.Event()
  for _ in range(100):
    if files.newest() != first:
      break
    end.wait(0.05)
  assert files.newest() != first and not held.lost
  storage.delete_tree(storage.join(folder, '.lease'))
  assert lost.wait(20)
  with pytest.raises(lease.LeaseLost, match='removed or replaced its mark'):
    held.check()


def test_a_process_that_has_ended_is_relieved_at_once(folder):
  me = process_identity.own()
  for ended in (dataclasses.replace(me, pid=2**22 + 1),
                dataclasses.replace(me, started='1')):
    lease.acquire(folder, BY_HAND, surroundings=lease.Surroundings(ended))
    said = []
    with lease.acquire(folder, BY_HAND, say=said.append):
      assert not said


def test_a_process_that_hangs_is_relieved_in_the_end(quick):
  """On the same machine, where it is seen to exist."""
  me = process_identity.own()
  def machine(on_sleep=None):
    made = Machine('one', on_sleep)
    made.surroundings = dataclasses.replace(made.surroundings, identity=me)
    return made
  machine().acquire(quick)
  other = machine()
  with pytest.raises(UserError, match='last sign of life: 0 s ago'):
    other.acquire(quick)
  other.pass_time(61)
  with other.acquire(quick):
    assert other.uptime - 1061 >= 60


@pytest.mark.parametrize('content', [
    b'', b'[]', b'{}', b'\xff', b'[' * 10_000, b'{"identity": 5}', b'null',
    b'{"identity": {"host": "x"}}', b'9' * 5000])
def test_a_damaged_record_is_watched_like_any_other(quick, content):
  storage.write_bytes(storage.join(quick, '.lease', '00000003'), content)
  other = Machine('two')
  with other.acquire(quick):
    assert other.uptime - 1000 >= 60
    assert 'a process that left no name' in other.said[0]
  assert storage.exists(storage.join(quick, '.lease', '00000004'))


def test_absurd_promises_are_bounded(quick):
  for validity in (1e300, float('inf'), float('nan'), -5, 'x', None):
    record = record_lib.Record(
        't', ProcessIdentity('h', 1, '', ''), 0.0, validity, 0, 0.0)
    parsed = record_lib.parse(record.to_bytes())
    assert parsed is None or 0 <= parsed.validity <= 3600


def test_who_looked_long_ago_gets_nothing(quick):
  """Even if the number that it wants to take has been freed since."""
  files = files_lib.LeaseFiles(quick, 60)
  for _ in range(12):
    Machine('one').acquire(quick).release()
  names = storage.children(storage.join(quick, '.lease'))
  assert names == [f'{n:08d}' for n in range(5, 13)]
  record = record_lib.Record('t', process_identity.own(), 0.0, 60, 0, 0.0)
  assert not files.take(2, record) and not files.take(12, record)
  assert storage.children(storage.join(quick, '.lease')) == names


def test_an_answer_that_was_lost_makes_nobody_lose(gcs):
  gcs.proxy.lose_answer(match='ifGenerationMatch')
  with lease.acquire(f'{gcs.url}/run', BY_HAND) as held:
    assert gcs.proxy.count(match='ifGenerationMatch') == 2
    gcs.proxy.lose_answer(method='POST')
    held.renew()
    held.renew()
    assert not held.lost


def test_a_full_disk_takes_signs_of_life(tmp_path, monkeypatch):
  held = Machine('one').acquire(tmp_path)
  def full(*unused, **unused_too):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(storage.disk.tempfile, 'mkstemp', full)
  other = Machine('two', on_sleep=held.renew)
  with pytest.raises(UserError, match='just now'):
    other.acquire(tmp_path)
  held.release()  # Which cannot be written; not even an error.


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='Cannot write to .*: Not a directory'):
    lease.acquire(tmp_path / 'file' / 'run')


def test_a_forked_child_releases_nothing(tmp_path):
  with lease.acquire(tmp_path) as held:
    child = os.fork()
    if not child:
      held.release()
      os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(UserError, match='is in use'):
      lease.acquire(tmp_path)
