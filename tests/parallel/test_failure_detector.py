"""A process that ends early ends the others, which say its name."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

# Against hanging alone; nothing here takes so long.
HANGS = 120

# A process of a run without JAX: it waits for ever, as in a computation that hangs.
# Process 0 is given the socket that listens at the address.
PROGRAM = textwrap.dedent('''
    import socket, sys, threading
    from vit_jax.runtime.errors import UserError
    from vit_jax.parallel import rendezvous
    from vit_jax.parallel.failure_detector import FailureDetector
    number, size, address, act, heartbeat_timeout, listener = sys.argv[1:]
    number = int(number)
    members, connections = rendezvous.join(
        address, int(size), number, 600.0,
        None if number else socket.socket(fileno=int(listener)))
    detector = FailureDetector(members, number, connections,
                               heartbeat_timeout=float(heartbeat_timeout),
                               news_timeout=600.0)
    detector.start()
    print('connected', flush=True)
    if act == 'leave':
      detector.leave()
    elif act == 'error':
      detector.leave(UserError('the disk is made of cheese'), 1)
      sys.exit(1)
    elif act == 'collective':
      # What the loss of another process looks like in a computation.
      sys.stdin.readline()
      print('leaving', flush=True)
      detector.leave(RuntimeError('Connection closed by peer'), 1)
    else:
      threading.Event().wait()
''')


def _run(acts, disturb=lambda processes: None, heartbeat_timeout=600.0):
  """(status, output) of processes, after `disturb` was called with all connected."""
  with socket.create_server(('localhost', 0)) as listener:
    address = f'localhost:{listener.getsockname()[1]}'
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', PROGRAM, str(i), str(len(acts)), address, act,
             str(heartbeat_timeout), str(listener.fileno())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**os.environ, 'PYTHONPATH': os.getcwd()},
            pass_fds=() if i else [listener.fileno()])
        for i, act in enumerate(acts)]
  try:
    for process in processes:
      assert process.stdout.readline() == 'connected\n'
    disturb(processes)
    outputs = [p.communicate(timeout=HANGS)[0] for p in processes]
    return [(p.returncode, out) for p, out in zip(processes, outputs, strict=True)]
  finally:
    for process in processes:
      process.kill()


def test_killed_process_is_named_by_all_others_without_waiting_for_its_heartbeat():
  results = _run(['wait'] * 3, lambda processes: processes[2].kill())
  for status, output in results[:2]:
    assert status == 76
    assert 'process 2 (' in output and 'of 3 ended without a word' in output


def test_killed_process_0_is_named_by_all_others():
  results = _run(['wait'] * 3, lambda processes: processes[0].kill())
  for status, output in results[1:]:
    assert status == 76 and 'process 0 (' in output


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
    # The computation has failed everywhere before the loss is known.
    for process in processes[:2]:
      assert process.stdout.readline() == 'leaving\n'
    processes[2].kill()
  results = _run(['collective', 'collective', 'wait'], kill)
  for status, output in results[:2]:
    assert status == 76 and 'process 2 (' in output


def test_silent_process_is_missed():
  def freeze(processes):
    processes[1].send_signal(signal.SIGSTOP)
    processes[0].wait(HANGS)
    processes[1].kill()
  status, output = _run(['wait', 'wait'], freeze, heartbeat_timeout=8.0)[0]
  assert status == 76
  assert 'process 1 (' in output and 'no sign of life for 8 s' in output


def test_leaving_in_any_order_is_no_loss():
  assert _run(['leave'] * 3) == [(0, '')] * 3
