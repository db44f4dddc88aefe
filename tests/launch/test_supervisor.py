"""Supervised processes, with small Python programs in the place of a training."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from launch import workload as workload_lib
from launch.supervisor import Command, Supervisor

# Against hanging alone; nothing here takes so long.
HANGS = 120
WAIT = f'import time; time.sleep({HANGS})'


@pytest.fixture(autouse=True)
def patient(monkeypatch):
  monkeypatch.setattr('launch.supervisor._DRAIN_TIMEOUT', float(HANGS))


def _supervisor(*programs, **options):
  lines = []
  commands = [
      Command((('WHO', str(i)),), [sys.executable, '-c', textwrap.dedent(program)])
      for i, program in enumerate(programs)]
  return Supervisor(commands, write=lines.append, **options), lines


def _once_there(path, program):
  """Source of `program` for when a file is there, which another process writes."""
  return f'''
import os, time
while not os.path.exists({str(path)!r}):
  time.sleep(0.01)
{textwrap.dedent(program)}'''


def _once_reaped(pid_file, program):
  """Source of `program` for when the supervisor has seen the end of a process."""
  return _once_there(pid_file, f'''
def there():
  try:
    os.kill(int(open({str(pid_file)!r}).read()), 0)
    return True
  except ProcessLookupError:
    return False
while there():
  time.sleep(0.01)
time.sleep(0.5)
''') + textwrap.dedent(program)


def _noting_its_pid(pid_file, program):
  return f'''
import os
with open({str(pid_file)!r} + '.new', 'w') as f:
  f.write(str(os.getpid()))
os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r})
{program}'''


def test_lines_carry_the_process_and_its_variables():
  supervisor, lines = _supervisor(*["import os; print('I am', os.environ['WHO'])"] * 2)
  assert supervisor.run() == 0
  assert sorted(lines) == ['[0] I am 0', '[1] I am 1']


def test_a_single_process_speaks_for_itself():
  supervisor, lines = _supervisor("import sys; print('a'); sys.stderr.write('b')")
  assert supervisor.run() == 0
  assert lines == ['a', 'b']


def test_a_failure_ends_all_and_comes_first(tmp_path, monkeypatch):
  monkeypatch.setattr('launch.supervisor._AFTER_FAILURE', float(HANGS))
  ready = tmp_path / 'ready'
  # The first speaks only once it is asked to end: a consequence of the failure.
  consequence = f'''
      import pathlib, signal, time
      def stop(*_):
        for i in range(30):
          print('lost my peer', i)
        raise SystemExit(3)
      signal.signal(signal.SIGTERM, stop)
      pathlib.Path({str(ready)!r}).touch()
      time.sleep({HANGS})'''
  failure = _once_there(ready, "raise ValueError('the cause')")
  supervisor, lines = _supervisor(consequence, failure)
  assert supervisor.run() == 1
  assert supervisor.statuses == {1: 1, 0: 3}
  cause = lines.index('[1] ValueError: the cause')
  assert lines[cause + 1] == (
      'launch: process 1 ended with status 1; ending the others')
  assert lines[cause + 2] == (
      'launch: after that, process 0 wrote 30 line(s), the last 10:')
  assert lines[cause + 3:] == [f'[0] lost my peer {i}' for i in range(20, 30)]


def test_one_that_does_not_listen_is_killed(tmp_path, monkeypatch):
  monkeypatch.setattr('launch.supervisor._AFTER_FAILURE', 0.2)
  ready = tmp_path / 'ready'
  deaf = f'''
      import pathlib, signal, time
      signal.signal(signal.SIGTERM, signal.SIG_IGN)
      pathlib.Path({str(ready)!r}).touch()
      time.sleep({HANGS})'''
  supervisor, lines = _supervisor(deaf, _once_there(ready, 'raise SystemExit(2)'))
  assert supervisor.run() == 2
  assert supervisor.statuses[0] == 128 + signal.SIGKILL


def test_killed_processes_are_named_by_their_signal():
  supervisor, lines = _supervisor(WAIT, 'import os; os.kill(os.getpid(), 9)')
  assert supervisor.run() == 128 + 9
  assert lines[0] == 'launch: process 1 was killed by SIGKILL; ending the others'


def test_saving_is_waited_for(tmp_path):
  # One ends with "start again" before the other, which must not be disturbed.
  pid_file = tmp_path / 'pid'
  supervisor, lines = _supervisor(
      _noting_its_pid(pid_file, 'raise SystemExit(75)'),
      _once_reaped(pid_file, 'print("saved"); raise SystemExit(75)'))
  assert supervisor.run() == 75
  assert list(supervisor.statuses.items()) == [(0, 75), (1, 75)]
  assert lines == ['[1] saved']


def test_shards_do_not_end_each_other(tmp_path):
  pid_file = tmp_path / 'pid'
  supervisor, lines = _supervisor(
      _noting_its_pid(pid_file, 'raise SystemExit(4)'),
      _once_reaped(pid_file, 'print(1)'), together=False)
  assert supervisor.run() == 4
  assert list(supervisor.statuses.items()) == [(0, 4), (1, 0)]
  assert '[1] 1' in lines


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_go_to_all_and_only_once(number, tmp_path):
  program = f'''
      import os, pathlib, signal, time
      seen = []
      def note(number, _):
        seen.append(number)
      signal.signal(signal.SIGINT, note)
      signal.signal(signal.SIGTERM, note)
      pathlib.Path({str(tmp_path)!r}, os.environ['WHO']).touch()
      deadline = time.monotonic() + {HANGS}
      while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
      time.sleep(0.5)
      print(seen)
      raise SystemExit(75 if seen == [signal.SIGTERM] else 130)'''
  script = textwrap.dedent(f'''
      import sys
      from launch.supervisor import Command, Supervisor
      program = {textwrap.dedent(program)!r}
      supervisor = Supervisor(
          [Command((('WHO', str(i)),), [sys.executable, '-c', program])
           for i in range(2)])
      status = supervisor.run()
      assert supervisor.stop_requested
      sys.exit(status)''')
  launcher = subprocess.Popen(
      [sys.executable, '-c', script], cwd=workload_lib.clone(), text=True,
      stdout=subprocess.PIPE, start_new_session=True)
  while not all((tmp_path / who).exists() for who in '01'):
    assert launcher.poll() is None
    time.sleep(0.02)
  # As a terminal does: to the whole group of the launcher.
  os.killpg(launcher.pid, number)
  out, _ = launcher.communicate(timeout=HANGS)
  assert launcher.returncode == (75 if number == signal.SIGTERM else 130)
  assert sorted(out.splitlines()) == [f'[{i}] [{int(number)}]' for i in range(2)]
