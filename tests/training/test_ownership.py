"""One run at a time in a work directory."""

import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import runs

from vit_jax import config as config_lib
from vit_jax.runtime import lease, storage
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.lease import LeaseLost
from vit_jax.training import metrics
from vit_jax.training.loop import train

_QUICK = ('--config.eval_every=0', '--config.data.test_split=')
_HOLD = '''
import signal, sys, time
from vit_jax.runtime import stopping
from vit_jax.training import ownership
with stopping.end_on_sigterm(), ownership.of(sys.argv[1], lambda: None):
  print('held', flush=True)
  if sys.argv[2] == 'end_process':
    stopping.end_process(7)
  time.sleep(60)
'''


def _config(folder):
  return config_lib.load(runs.write_config(folder), _QUICK)


def _record(workdir) -> dict:
  """Of the newest lease."""
  newest = storage.children(workdir / '.lease')[-1]
  return json.loads((workdir / '.lease' / newest).read_text())


def _files(folder) -> dict:
  return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_a_second_run_is_told_whose_the_directory_is(tmp_path):
  workdir = tmp_path / 'run'
  with lease.acquire(workdir):
    before = _files(workdir)
    with pytest.raises(UserError, match=(
        rf'{workdir} is in use by process {os.getpid()} on \S+ since 20\d\d-.* UTC')):
      train(_config(tmp_path), str(workdir))
    assert _files(workdir) == before
  train(_config(tmp_path), str(workdir))
  assert _record(workdir)['released']


def test_a_run_that_lost_its_directory_writes_nothing_more(tmp_path, monkeypatch):
  workdir = tmp_path / 'run'
  monkeypatch.setattr(lease, 'acquire', functools.partial(
      lease.acquire, timing=lease.Timing(60, 0.02)))
  write = metrics.Writer.write

  def taken_over_after_step_6(writer, step, values):
    write(writer, step, values)
    if step == 6:
      (workdir / '.lease' / '00000002').write_bytes(b'{}')
      time.sleep(0.5)

  monkeypatch.setattr(metrics.Writer, 'write', taken_over_after_step_6)
  with pytest.raises(LeaseLost, match='a process that left no name has taken it over'
                     ) as caught:
    train(_config(tmp_path), str(workdir))
  assert caught.value.exit_status == 76
  assert list(runs.losses(workdir)) == [1, 2, 3, 4, 5, 6]
  assert os.listdir(workdir / 'checkpoints') == ['5']
  assert (workdir / '.lease' / '00000002').read_bytes() == b'{}'


@pytest.mark.parametrize('way, status', [('end_process', 7), ('SIGTERM', 75)])
def test_whatever_ends_a_process_frees_the_directory(tmp_path, way, status):
  process = subprocess.Popen([sys.executable, '-c', _HOLD, str(tmp_path), way],
                             stdout=subprocess.PIPE, text=True)
  assert process.stdout.readline() == 'held\n'
  if way == 'SIGTERM':
    process.send_signal(signal.SIGTERM)
  process.communicate(timeout=30)
  assert process.returncode == status
  assert _record(tmp_path)['released']


@pytest.mark.slow
def test_two_processes_and_a_dead_owner(tmp_path):
  """The second is refused; once the first is killed, it goes on from there."""
  workdir = tmp_path / 'run'
  words = ('train', f'--config={runs.write_config(tmp_path)}', f'--workdir={workdir}',
           '--config.total_steps=4000', '--config.checkpoint.every=20', *_QUICK)
  first = runs.command(*words)
  try:
    while not list(pathlib.Path(workdir).glob('checkpoints/20')):
      assert first.poll() is None
      time.sleep(0.02)
    _, error = runs.finish(runs.command(*words), 1)
    assert re.search(rf'in use by process {first.pid} on ', error), error
    assert first.poll() is None
  finally:
    first.kill()
    first.communicate()
  second = runs.command(*words)
  for line in second.stdout:
    if 'resuming at step' in line:
      break
  else:
    pytest.fail(second.stderr.read())
  second.terminate()
  runs.finish(second, 75)
  assert _record(workdir)['released']
