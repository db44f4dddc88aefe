"""Who is missing is said to everybody who came; contradictions are, too."""

import json
import re
import socket
import threading
import time

import pytest

from vit_jax.parallel import roll_call
from vit_jax.runtime.errors import UserError


def _address():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return f'localhost:{s.getsockname()[1]}'


def _hold(address, places, timeout=10.0):
  """What `hold` returns or raises for every (size, process id)."""
  results = [None] * len(places)

  def one(i):
    try:
      results[i] = roll_call.hold(address, *places[i], timeout)
    except UserError as e:
      results[i] = e
  threads = [threading.Thread(target=one, args=(i,)) for i in range(len(places))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(30)
  return results


def test_everybody_learns_of_everybody():
  results = _hold(_address(), [(4, i) for i in (3, 0, 2, 1)])
  for members, _ in results:
    assert [m.process_id for m in members] == [0, 1, 2, 3]
  assert set(results[1][1]) == {1, 2, 3}
  assert [set(lines) for _, lines in results[:1] + results[2:]] == [{0}] * 3
  # The lines are connected to whom they say.
  results[1][1][2].send({'hello': 2})
  assert results[2][1][0].receive() == [{'hello': 2}]


def test_what_comes_right_behind_the_verdict_is_not_lost():
  with socket.create_server(('localhost', 0)) as server:
    def serve():
      connection, _ = server.accept()
      with connection:
        line = roll_call.Line(connection)
        member = line.receive()[0]['member']
        connection.sendall(b''.join(json.dumps(m).encode() + b'\n' for m in (
            {'members': [member]}, {'alive': ''}, {'error': 'no'})))
        line.receive()
    thread = threading.Thread(target=serve)
    thread.start()
    address = f'localhost:{server.getsockname()[1]}'
    [(members, lines)] = _hold(address, [(2, 1)])
    assert members[0].process_id == 1
    lines[0].socket.settimeout(5)
    assert lines[0].receive() == [{'alive': ''}, {'error': 'no'}]
    lines[0].close()
    thread.join()


def test_port_is_free_again_for_jax():
  address = _address()
  results = _hold(address, [(2, 0), (2, 1)])
  assert not any(isinstance(r, UserError) for r in results)
  # While the connections of the roll call are open.
  with socket.create_server(('', int(address.split(':')[1]))):
    pass


def test_missing_processes_are_named_to_all_who_came_and_in_time():
  began = time.monotonic()
  results = _hold(_address(), [(5, 0), (5, 3), (5, 1)], timeout=2.0)
  assert time.monotonic() - began < 6
  for error in results:
    assert re.search(
        r'Of 5 processes, 3 came within 2 s. Missing: process 2, 4. There: process 0 '
        r'\(.*process 1 \(.*process 3 \(', str(error))


def test_missing_process_0_is_named():
  address = _address()
  [error] = _hold(address, [(2, 1)], timeout=1.0)
  assert 'Process 0 did not answer process 1 (' in str(error)
  assert address in str(error) and 'within 1 s' in str(error)


def test_two_processes_with_the_same_number():
  results = _hold(_address(), [(3, 0), (3, 1), (3, 1)])
  errors = [r for r in results if isinstance(r, UserError)]
  assert len(errors) == 3
  assert all('Two processes came as number 1' in str(e) for e in errors)


def test_different_sizes():
  results = _hold(_address(), [(2, 0), (3, 1)])
  for error in results:
    assert re.search(r'process 1 .*--num_processes=3, process 0 .*=2', str(error))


def test_a_process_that_dies_while_it_waits_is_missing():
  address = _address()
  host, port = roll_call.split_address(address)

  def die():
    while True:
      try:
        line = roll_call.Line(socket.create_connection((host, port)))
        break
      except OSError:
        time.sleep(0.05)
    line.send({'protocol': 'vit_jax roll call 1', 'size': 4,
               'member': {'process_id': 2, 'host': 'x', 'pid': 1}})
    time.sleep(0.5)
    line.close()
  thread = threading.Thread(target=die)
  thread.start()
  results = _hold(address, [(4, 0), (4, 1)], timeout=3.0)
  thread.join()
  assert all('Missing: process 2, 3.' in str(error) for error in results)


@pytest.mark.parametrize('noise', [
    b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', b'{"protocol": "other"}\n', b'[1]\n', b'\n'])
def test_strangers_on_the_port_are_ignored(noise):
  address = _address()
  host, port = roll_call.split_address(address)
  stop = threading.Event()

  def disturb():
    while not stop.is_set():
      try:
        with socket.create_connection((host, port), timeout=1) as s:
          s.sendall(noise)
          time.sleep(0.1)
      except OSError:
        time.sleep(0.05)
  thread = threading.Thread(target=disturb)
  thread.start()
  time.sleep(0.2)
  results = _hold(address, [(2, 0), (2, 1)])
  stop.set()
  thread.join()
  assert not any(isinstance(r, UserError) for r in results)


def test_another_program_on_the_port_is_told_to_the_others():
  with socket.create_server(('localhost', 0)) as server:
    def serve():
      while True:
        try:
          connection, _ = server.accept()
        except OSError:
          return
        connection.sendall(json.dumps('hello').encode() + b'\n')
        connection.close()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    address = f'localhost:{server.getsockname()[1]}'
    [error] = _hold(address, [(2, 1)], timeout=1.0)
  assert 'not a message' in str(error)


@pytest.mark.parametrize('address', ['host', ':12', 'host:', 'host:x', 'host:70000'])
def test_bad_addresses(address):
  with pytest.raises(UserError, match='expected HOST:PORT'):
    roll_call.split_address(address)


def test_ipv6_address():
  assert roll_call.split_address('[::1]:12') == ('::1', 12)
