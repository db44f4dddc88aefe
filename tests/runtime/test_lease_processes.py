"""Real processes want one lease, and are killed: never two have it, and never none."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from vit_jax.runtime import lease
from vit_jax.runtime.errors import UserError

HAMMER = pathlib.Path(__file__).parents[1] / 'lease_hammer.py'
_HOLD = '''
import sys, time
from vit_jax.runtime import lease
with lease.acquire(sys.argv[1], lease.Timing(float(sys.argv[2]), 0.1)) as held:
  print('held', flush=True)
  while not held.lost:
    time.sleep(0.01)
  print('lost', flush=True)
'''


@pytest.fixture(params=['disk', 'gs'])
def folder(request, tmp_path):
  if request.param == 'disk':
    return str(tmp_path / 'run')
  return request.getfixturevalue('gcs').url + '/run'


def _hammer(folder, tmp_path, workers, seconds, validity, machines):
  notes = tmp_path / 'notes'
  notes.mkdir()
  done = subprocess.run(
      [sys.executable, str(HAMMER), folder, str(notes), str(workers), str(seconds),
       str(validity), machines], capture_output=True, text=True, check=True)
  counts = json.loads(done.stdout)
  assert counts.keys() <= {'held', 'refused', 'kills'}, counts
  return counts


def test_the_killed_are_relieved_at_once(folder, tmp_path):
  counts = _hammer(folder, tmp_path, 4, 2, 30, 'one machine')
  assert counts['held'] > 3 and counts['kills'] > 3


@pytest.mark.slow
@pytest.mark.parametrize(('machines', 'validity', 'least'), [
    ('one machine', 30, 30), ('machines', 2, 3)])
def test_many_processes_for_long(folder, tmp_path, machines, validity, least):
  counts = _hammer(folder, tmp_path, 8, 15, validity, machines)
  assert counts['held'] > least and counts['kills'] > 25


def test_who_was_stopped_for_too_long_has_lost(folder):
  """It continues, but finds out before it could write."""
  holder = subprocess.Popen([sys.executable, '-c', _HOLD, folder, '1'],
                            stdout=subprocess.PIPE, text=True)
  try:
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(UserError, match=f'in use by process {holder.pid} on '):
      lease.acquire(folder)
    holder.send_signal(signal.SIGSTOP)
    time.sleep(1)
    with lease.acquire(folder) as held:
      holder.send_signal(signal.SIGCONT)
      assert holder.stdout.readline() == 'lost\n'
      assert holder.wait() == 0
      held.renew()
      assert not held.lost
  finally:
    holder.kill()
    holder.communicate()


def test_a_killed_holder_leaves_nothing_to_wait_for(folder):
  holder = subprocess.Popen([sys.executable, '-c', _HOLD, folder, '60'],
                            stdout=subprocess.PIPE, text=True)
  assert holder.stdout.readline() == 'held\n'
  os.kill(holder.pid, signal.SIGKILL)
  # Not even waited for by its parent.
  began = time.monotonic()
  while True:
    try:
      lease.acquire(folder).release()
      break
    except UserError:
      assert time.monotonic() - began < 5
  holder.communicate()
