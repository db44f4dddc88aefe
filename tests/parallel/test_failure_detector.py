"""A process that ends early ends the others, which say its name."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

# A process of a run without JAX: it waits for ever, as in a computation that hangs.
PROGRAM = textwrap.dedent('''
    import os, signal, sys, threading, time
    from vit_jax.runtime.errors import UserError
    from vit_jax.parallel import rendezvous
    number, size, address, act = (
        int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
    watch.SILENCE = 4.0
    members, lines = roll_call.hold(address, size, number, 30.0)
    w = watch.Watch(members, number, lines)
    w.start()
    print('connected', flush=True)
    if act == 'leave':
      w.leave()
    elif act == 'error':
      w.leave(UserError('the disk is made of cheese'), 1)
      sys.exit(1)
    elif act == 'collective':
      # What the loss of another process looks like in a computation.
      sys.stdin.readline()
      w.leave(RuntimeError('Connection closed by peer'), 1)
    else:
      threading.Event().wait()
''')


def _run(acts, disturb=lambda processes: None):
  """(status, output) of processes, after `disturb` was called with all connected."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    address = f'localhost:{s.getsockname()[1]}'
  processes = [
      subprocess.Popen(
          [sys.executable, '-c', PROGRAM, str(i), str(len(acts)), address, act],
          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
          text=True, env={**os.environ, 'PYTHONPATH': os.getcwd()})
      for i, act in enumerate(acts)]
  for process in processes:
    assert process.stdout.readline() == 'connected\n'
  disturb(processes)
  results = [(p.returncode, out) for p, out in (
      (p, p.communicate(timeout=30)[0]) for p in processes)]
  return results


def test_killed_process_is_named_by_all_others_at_once():
  times = []

  def kill(processes):
    processes[2].kill()
    began = time.monotonic()
    processes[0].wait(10)
    processes[1].wait(10)
    times.append(time.monotonic() - began)
  results = _run(['wait'] * 3, kill)
  for status, output in results[:2]:
    assert status == 75
    assert 'process 2 (' in output and 'of 3 ended without a word' in output
  assert times[0] < 5


def test_killed_process_0_is_named_by_all_others():
  results = _run(['wait'] * 3, lambda processes: processes[0].kill())
  for status, output in results[1:]:
    assert status == 75 and 'process 0 (' in output


def test_error_of_one_ends_the_others_with_its_text():
  results = _run(['wait', 'error', 'wait'])
  for status, output in (results[0], results[2]):
    assert status == 1
    assert 'process 1 (' in output and 'UserError: the disk is made of cheese' in output
  assert results[1] == (1, '')


def test_error_of_process_0_reaches_the_others():
  results = _run(['error', 'wait'])
  assert results[1][0] == 1 and 'made of cheese' in results[1][1]


def test_the_loss_is_named_instead_of_what_it_did_to_the_computation():
  def kill(processes):
    for process in processes[:2]:
      process.stdin.write('\n')
      process.stdin.flush()
    time.sleep(0.5)
    processes[2].kill()
  results = _run(['collective', 'collective', 'wait'], kill)
  for status, output in results[:2]:
    assert status == 75 and 'process 2 (' in output


def test_silent_process_is_missed():
  def freeze(processes):
    processes[1].send_signal(signal.SIGSTOP)
    processes[0].wait(15)
    processes[1].kill()
  status, output = _run(['wait', 'wait'], freeze)[0]
  assert status == 75
  assert 'process 1 (' in output and 'no sign of life for 4 s' in output


def test_leaving_in_any_order_is_no_loss():
  assert _run(['leave'] * 3) == [(0, '')] * 3
