"""A group of processes, with small Python programs in the place of a training."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from launch.supervisor import Supervisor


def _group(*programs, **options):
  lines = []
  commands = [((('WHO', str(i)),), [sys.executable, '-c', textwrap.dedent(program)])
              for i, program in enumerate(programs)]
  return Supervisor(commands, write=lines.append, **options), lines


WAIT = 'import time; time.sleep(60)'


def test_lines_carry_the_process_and_its_variables():
  group, lines = _group(*["import os; print('I am', os.environ['WHO'])"] * 2)
  assert group.run() == 0
  assert sorted(lines) == ['[0] I am 0', '[1] I am 1']


def test_a_single_process_speaks_for_itself():
  group, lines = _group("import sys; print('a'); sys.stderr.write('b')")
  assert group.run() == 0
  assert lines == ['a', 'b']


def test_a_failure_ends_all_and_comes_first(tmp_path):
  # The second speaks only once it is asked to end: a consequence of the failure.
  consequence = f'''
      import pathlib, signal, time
      def stop(*_):
        for i in range(30):
          print('lost my peer', i)
        raise SystemExit(3)
      signal.signal(signal.SIGTERM, stop)
      pathlib.Path({str(tmp_path / "ready")!r}).touch()
      time.sleep(60)'''
  failure = f'''
      import os, time
      while not os.path.exists({str(tmp_path / "ready")!r}):
        time.sleep(0.01)
      raise ValueError('the cause')'''
  group, lines = _group(consequence, failure)
  began = time.monotonic()
  assert group.run() == 1
  assert time.monotonic() - began < 20
  cause = lines.index('[1] ValueError: the cause')
  assert lines[cause + 1] == (
      'launch: process 1 ended with status 1; ending the others')
  assert lines[cause + 2] == (
      'launch: after that, process 0 wrote 30 line(s), the last 10:')
  assert lines[cause + 3:] == [f'[0] lost my peer {i}' for i in range(20, 30)]


def test_one_that_does_not_listen_is_killed(monkeypatch):
  monkeypatch.setattr('launch.processes._AFTER_FAILURE', 0.2)
  deaf = '''
      import signal, time
      signal.signal(signal.SIGTERM, signal.SIG_IGN)
      time.sleep(60)'''
  group, lines = _group(deaf, 'import time; time.sleep(1); raise SystemExit(2)')
  assert group.run() == 2


def test_killed_processes_are_named_by_their_signal():
  group, lines = _group(WAIT, 'import os; os.kill(os.getpid(), 9)')
  assert group.run() == 128 + 9
  assert lines[0] == 'launch: process 1 was killed by SIGKILL; ending the others'


def test_saving_is_waited_for():
  # One ends with "start again" a second before the other, which must not be disturbed.
  group, lines = _group(
      'raise SystemExit(75)',
      'import time; time.sleep(1); print("saved"); raise SystemExit(75)')
  assert group.run() == 75
  assert not any('after that' in line for line in lines)


def test_shards_do_not_end_each_other():
  group, lines = _group('raise SystemExit(4)', 'import time; time.sleep(1); print(1)',
                        together=False)
  assert group.run() == 4
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
      deadline = time.monotonic() + 30
      while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
      time.sleep(0.5)
      print(seen)
      raise SystemExit(75 if seen == [signal.SIGTERM] else 130)'''
  script = textwrap.dedent(f'''
      import sys
      from launch.supervisor import Group
      program = {textwrap.dedent(program)!r}
      group = Group([((('WHO', str(i)),), [sys.executable, '-c', program])
                     for i in range(2)])
      status = group.run()
      assert group.stop_requested
      sys.exit(status)''')
  root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
  launcher = subprocess.Popen([sys.executable, '-c', script], cwd=root, text=True,
                              stdout=subprocess.PIPE, start_new_session=True)
  while not all((tmp_path / who).exists() for who in '01'):
    assert launcher.poll() is None
    time.sleep(0.02)
  # As a terminal does: to the whole group of the launcher.
  os.killpg(launcher.pid, number)
  out, _ = launcher.communicate(timeout=60)
  assert launcher.returncode == (75 if number == signal.SIGTERM else 130)
  assert sorted(out.splitlines()) == [f'[{i}] [{int(number)}]' for i in range(2)]
