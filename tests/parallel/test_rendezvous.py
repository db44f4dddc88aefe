"""Who is missing is said to everybody who came; contradictions are, too."""

import json
import os
import re
import socket
import threading

import pytest

from vit_jax.parallel import rendezvous
from vit_jax.parallel.connection import Connection
from vit_jax.parallel.rendezvous import Member
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.ports import reserved_port

# Against hanging alone; nothing here takes so long.
HANGS = 120
# Seconds that nobody should wait for.
LONG = 600.0


@pytest.fixture
def listener():
  """Process 0's socket. Whoever connects early waits in its queue."""
  with socket.create_server(('localhost', 0)) as listening:
    yield listening


def _address(listening):
  return f'localhost:{listening.getsockname()[1]}'


def _in_threads(functions):
  """What every function returns, or the UserError that it raises."""
  results = [None] * len(functions)

  def one(i):
    try:
      results[i] = functions[i]()
    except UserError as e:
      results[i] = e
  threads = [threading.Thread(target=one, args=(i,), daemon=True)
             for i in range(len(functions))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(HANGS)
    assert not thread.is_alive(), 'it hangs'
  return results


def _join(listening, places, timeout=LONG):
  """What `join` returns or raises for every (size, process id)."""
  def join(size, number):
    return rendezvous.join(_address(listening), size, number, timeout,
                           listening if number == 0 else None)
  return _in_threads([lambda place=place: join(*place) for place in places])


def _time_is_up_once(came, listening, size, places):
  """As `_join`, with a timeout of 2 s that ends once `came(server)` holds."""
  def clock():
    return 2.0 if came(server) else 0.0
  me = Member(0, socket.gethostname(), 1)
  server = rendezvous._Server(listening, size, me, timeout=2.0, clock=clock)
  address = _address(listening)
  return _in_threads([
      server.run, *(lambda place=place: rendezvous.join(address, *place, LONG)
                    for place in places)])


def test_everybody_learns_of_everybody(listener):
  results = _join(listener, [(4, i) for i in (3, 0, 2, 1)])
  for members, _ in results:
    assert [m.process_id for m in members] == [0, 1, 2, 3]
  assert set(results[1].connections) == {1, 2, 3}
  others = results[:1] + results[2:]
  assert [set(found.connections) for found in others] == [{0}] * 3
  # The connections lead to whom they say.
  results[1].connections[2].send({'hello': 2})
  assert results[2].connections[0].receive() == [{'hello': 2}]


def test_what_comes_right_behind_the_reply_is_not_lost():
  with socket.create_server(('localhost', 0)) as server:
    def serve():
      connected, _ = server.accept()
      with connected:
        connection = Connection(connected)
        member = connection.receive()[0]['member']
        connected.sendall(b''.join(json.dumps(m).encode() + b'\n' for m in (
            {'members': [member]}, {'alive': ''}, {'error': 'no'})))
        connection.receive()
    thread = threading.Thread(target=serve)
    thread.start()
    [(members, connections)] = _in_threads(
        [lambda: rendezvous.join(_address(server), 2, 1, LONG)])
    assert members[0].process_id == 1
    connections[0].socket.settimeout(HANGS)
    assert connections[0].receive() == [{'alive': ''}, {'error': 'no'}]
    connections[0].close()
    thread.join(HANGS)


def test_process_0_listens_where_the_address_says_and_leaves_the_port_to_jax():
  with reserved_port() as port:
    address = f'localhost:{port}'
    results = _in_threads(
        [lambda i=i: rendezvous.join(address, 2, i, LONG) for i in (0, 1)])
    assert not any(isinstance(r, UserError) for r in results)
    # While the connections of the rendezvous are open.
    with socket.create_server(('', port)):
      pass


def test_missing_processes_are_named_to_all_who_came(listener):
  errors = _time_is_up_once(
      lambda server: server.members.keys() == {0, 1, 3}, listener, 5, [(5, 3), (5, 1)])
  for error in errors:
    assert re.search(
        r'Of 5 processes, 3 came within 2 s. Missing: process 2, 4. There: process 0 '
        r'\(.*process 1 \(.*process 3 \(', str(error))


def test_nobody_waits_longer_than_the_timeout(listener):
  [error] = _join(listener, [(2, 0)], timeout=0.5)
  assert 'Of 2 processes, 1 came within 0.5 s. Missing: process 1.' in str(error)


def test_missing_process_0_is_named():
  # Nobody listens there.
  with reserved_port() as port:
    address = f'localhost:{port}'
    [error] = _in_threads([lambda: rendezvous.join(address, 2, 1, timeout=1.0)])
  assert 'Process 0 did not answer process 1 (' in str(error)
  assert address in str(error) and 'within 1 s' in str(error)


def test_two_processes_with_the_same_number(listener):
  results = _join(listener, [(3, 0), (3, 1), (3, 1)])
  errors = [r for r in results if isinstance(r, UserError)]
  assert len(errors) == 3
  assert all('Two processes came as number 1' in str(e) for e in errors)


def test_different_sizes(listener):
  results = _join(listener, [(2, 0), (3, 1)])
  for error in results:
    assert re.search(r'process 1 .*--num_processes=3, process 0 .*=2', str(error))


def test_a_process_that_dies_while_it_waits_is_missing(listener):
  with socket.create_connection(listener.getsockname()) as dying:
    Connection(dying).send({'protocol': 'vit_jax rendezvous 1', 'size': 4,
                            'member': {'process_id': 2, 'host': 'x', 'pid': 1}})
  came = set()

  def died(server):
    came.update(server.members)
    return 2 in came and server.members.keys() == {0, 1}
  errors = _time_is_up_once(died, listener, 4, [(4, 1)])
  assert all('Missing: process 2, 3.' in str(error) for error in errors)


@pytest.mark.parametrize('noise', [
    b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', b'{"protocol": "other"}\n', b'[1]\n', b'\n'])
def test_strangers_on_the_port_are_ignored(listener, noise):
  strangers = [socket.create_connection(listener.getsockname()) for _ in range(3)]
  for stranger in strangers:
    stranger.sendall(noise)
  # One has hung up before it is answered, two are still there.
  strangers.pop().close()
  results = _join(listener, [(2, 0), (2, 1)])
  assert not any(isinstance(r, UserError) for r in results)
  for stranger in strangers:
    stranger.close()


def _message(**values):
  member = {'process_id': 1, 'host': 'x', 'pid': 1}
  member |= {k: values.pop(k) for k in list(values) if k in member}
  return {'protocol': 'vit_jax rendezvous 1', 'size': 2, 'member': member, **values}


@pytest.mark.parametrize('message', [
    _message(process_id=i) for i in (7, 2, -1, 1.5, True, None, '1', [1], 10**30)] + [
    _message(host='x' * 300), _message(host='\x1b[2J'), _message(host=3),
    _message(pid=-1), _message(size=[2]), _message(size=True), _message(member=[]),
    _message(member={'process_id': 1}), {'protocol': None}], ids=str)
def test_impossible_members_are_ignored(listener, message):
  with socket.create_connection(listener.getsockname()) as stranger:
    Connection(stranger).send(message)
    results = _join(listener, [(2, 0), (2, 1)])
  assert [r.members[1].pid for r in results] == [os.getpid()] * 2


def test_nested_messages_are_ignored(listener):
  for noise in (b'[' * 50_000 + b'\n', b'{"a":' * 50_000 + b'\n'):
    with socket.create_connection(listener.getsockname()) as stranger:
      stranger.sendall(noise)
  results = _join(listener, [(2, 0), (2, 1)])
  assert not any(isinstance(r, UserError) for r in results)


@pytest.mark.parametrize('token', [{'token': 'other'}, {'token': ['secret']}, {}])
def test_a_process_with_another_token_is_told_and_the_run_goes_on(
    listener, monkeypatch, token):
  monkeypatch.setenv(rendezvous.TOKEN_VARIABLE, 'secret')
  server = rendezvous._Server(listener, 2, Member(0, 'a', 1), LONG)
  with socket.create_connection(listener.getsockname()) as stranger:
    connection = Connection(stranger)
    connection.send(_message(**token))
    stranger.settimeout(HANGS)
    def join():
      replies = connection.receive()
      assert 'another VIT_JAX_RUN_TOKEN' in replies[0]['error']
      return rendezvous.join(_address(listener), 2, 1, LONG)
    results = _in_threads([server.run, join])
  assert [len(r.members) for r in results] == [2, 2]


def test_another_program_on_the_port_is_told_to_the_others():
  with socket.create_server(('localhost', 0)) as server:
    def serve():
      while True:
        try:
          connected, _ = server.accept()
        except OSError:
          return
        with connected:
          # What is left unread would break the connection before the answer.
          connected.recv(1 << 16)
          connected.sendall(json.dumps('hello').encode() + b'\n')
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    [error] = _in_threads(
        [lambda: rendezvous.join(_address(server), 2, 1, timeout=1.0)])
  assert 'not a message' in str(error)


@pytest.mark.parametrize('address', ['host', ':12', 'host:', 'host:x', 'host:70000'])
def test_bad_addresses(address):
  with pytest.raises(UserError, match='expected HOST:PORT'):
    rendezvous.split_address(address)


def test_ipv6_address():
  assert rendezvous.split_address('[::1]:12') == ('::1', 12)
