"""The roll call of a run of several processes, before JAX connects them.

JAX waits for all processes and, when one doesn't come, aborts the others without
saying which. So process 0 first listens on the coordinator's port itself, until
every other process has told its number there; then it closes the port, which is
JAX's from there on. The connections stay open for `watch.Watch`.

A message is one line of JSON.
"""

import contextlib
import dataclasses
import errno
import json
import os
import selectors
import socket
import time

from vit_jax.runtime.errors import UserError

_PROTOCOL = 'vit_jax roll call 1'
# A restarted run may find the port still held by the process 0 that is ending.
_PORT_PATIENCE = 20.0
_RETRY = 0.3


@dataclasses.dataclass(frozen=True)
class Member:
  """One process of the run."""
  process_id: int
  host: str
  pid: int

  def __str__(self):
    return f'process {self.process_id} ({self.host}, pid {self.pid})'


class Line:
  """A connection over which lines of JSON go; `host` names the other end."""

  def __init__(self, connection: socket.socket):
    self.socket = connection
    self._received = b''

  def send(self, message: dict):
    self.socket.sendall(json.dumps(message).encode() + b'\n')

  def receive(self, one: bool = False) -> list[dict] | None:
    """The messages that have come; None once the other end is gone.

    Args:
      one: take the first alone; those behind it stay for whoever reads next.

    Raises:
      ValueError: if the other end does not speak this protocol.
    """
    try:
      size = 1 << 16
      if one:
        seen = self.socket.recv(size, socket.MSG_PEEK)
        size = seen.find(b'\n') + 1 or size
      data = self.socket.recv(size)
    except (BlockingIOError, TimeoutError, InterruptedError):
      return []
    except OSError:
      return None
    if not data:
      return None
    *lines, self._received = (self._received + data).split(b'\n')
    messages = [json.loads(line) for line in lines]
    if not all(isinstance(m, dict) for m in messages) or len(self._received) > 1 << 20:
      raise ValueError('not a message')
    return messages

  def close(self):
    self.socket.close()


def split_address(address: str) -> tuple[str, int]:
  """('host', port) of 'host:port', also of '[::1]:port'."""
  host, colon, port = address.rpartition(':')
  if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise UserError(
        f'--coordinator_address={address!r}; expected HOST:PORT, where process 0 '
        'runs and a free port there, such as 10.0.0.1:1234.')
  return host.strip('[]'), int(port)


def hold(address: str, num_processes: int, process_id: int, timeout: float):
  """(members, lines): all processes, and the connections to some of them.

  Process 0 gets a line to every other process, the others one to process 0.

  Args:
    address: 'host:port' of process 0.
    num_processes: of the run.
    process_id: of this process.
    timeout: seconds that process 0 waits for the others, and they for it.

  Raises:
    UserError: on every process that is there, if not all of them came or their
      settings contradict each other. It names them.
  """
  me = Member(process_id, socket.gethostname(), os.getpid())
  if process_id == 0:
    return _Desk(split_address(address)[1], num_processes, me, timeout).run()
  return _report(address, num_processes, me, timeout)


class _Desk:
  """Process 0's side."""

  def __init__(self, port, num_processes, me, timeout):
    self._port, self._size, self._me = port, num_processes, me
    self._timeout = timeout
    self._deadline = time.monotonic() + timeout
    self._members, self._lines = {0: me}, {}
    self._selector = selectors.DefaultSelector()

  def run(self):
    with _listen(self._port) as listener:
      # A caller may have hung up before it is answered: never wait for the next one.
      listener.setblocking(False)
      self._selector.register(listener, selectors.EVENT_READ)
      error = ''
      while len(self._members) < self._size and not error:
        left = self._deadline - time.monotonic()
        if left <= 0:
          error = self._missing()
          break
        for key, _ in self._selector.select(min(left, 1.0)):
          error = error or self._serve(key, listener)
      self._selector.close()
    members = [self._members[i] for i in sorted(self._members)]
    verdict = {'error': error} if error else {
        'members': [dataclasses.asdict(m) for m in members]}
    for line in self._lines.values():
      with contextlib.suppress(OSError):  # Gone since; the watch will say so.
        line.socket.setblocking(True)
        line.send(verdict)
    if error:
      raise UserError(error)
    return members, self._lines

  def _serve(self, key, listener) -> str:
    """Handles one event; returns an error that ends the roll call, or ''."""
    if key.fileobj is listener:
      try:
        connection, _ = listener.accept()
      except OSError:
        return ''  # It has hung up.
      connection.setblocking(False)
      self._selector.register(connection, selectors.EVENT_READ, Line(connection))
      return ''
    line = key.data
    try:
      messages = line.receive()
      if messages is not None:
        for message in messages:
          self._check_in(message, line)
        return ''
    except _Contradiction as e:
      with contextlib.suppress(OSError):
        line.socket.setblocking(True)
        line.send({'error': str(e)})
      return str(e)
    except (ValueError, KeyError, TypeError):
      pass  # Not one of ours.
    # It ended while it waited; perhaps it is started again.
    for number in [n for n, other in self._lines.items() if other is line]:
      del self._lines[number], self._members[number]
    self._selector.unregister(line.socket)
    line.close()
    return ''

  def _check_in(self, message, line):
    if message['protocol'] != _PROTOCOL:
      raise ValueError(message['protocol'])
    member = Member(**message['member'])
    if message['size'] != self._size:
      raise _Contradiction(
          f'{member} was started with --num_processes={message["size"]}, {self._me} '
          f'with --num_processes={self._size}. Give all the same number.')
    if member.process_id in self._members:
      other = self._members[member.process_id]
      raise _Contradiction(
          f'Two processes came as number {member.process_id}: on {other.host} with '
          f'pid {other.pid} and on {member.host} with pid {member.pid}. Give every '
          f'process its own --process_id from 0 to {self._size - 1}.')
    self._members[member.process_id] = member
    self._lines[member.process_id] = line

  def _missing(self):
    return missing(self._size, self._members.values(), self._timeout)


class _Contradiction(Exception):
  """Processes of one run that were started with settings that don't fit."""


def missing(size: int, members, timeout: float) -> str:
  """The error that names who did not come."""
  members = sorted(members, key=lambda m: m.process_id)
  there = {m.process_id for m in members}
  absent = ', '.join(str(i) for i in range(size) if i not in there)
  return (
      f'Of {size} processes, {len(members)} came within {timeout:g} s. Missing: '
      f'process {absent}. There: {", ".join(str(m) for m in members)}. See what the '
      'missing ones say and whether they reach --coordinator_address; more time: '
      '--start_timeout=SECONDS.')


def _listen(port):
  """A listening socket for IPv4 and, where there is one, IPv6."""
  give_up = time.monotonic() + _PORT_PATIENCE
  while True:
    try:
      if socket.has_dualstack_ipv6():
        return socket.create_server(
            ('', port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
      return socket.create_server(('', port), backlog=1024)
    except OSError as e:
      if e.errno != errno.EADDRINUSE or time.monotonic() > give_up:
        raise UserError(
            f'Process 0 cannot listen on port {port} of {socket.gethostname()}: '
            f'{e.strerror}. Another run may be using it; give another port in '
            '--coordinator_address.') from e
    time.sleep(_RETRY)


def _report(address, size, me, timeout):
  """Every other process's side."""
  host, port = split_address(address)
  deadline = time.monotonic() + timeout
  reason = 'no try'
  while time.monotonic() < deadline:
    line = None
    try:
      line = Line(socket.create_connection((host, port), timeout=5))
      line.send({'protocol': _PROTOCOL, 'size': size,
                 'member': dataclasses.asdict(me)})
      # Process 0 may have come last, and then waits as long as we did.
      verdict = _verdict(line, time.monotonic() + timeout + 5)
      if 'error' in verdict:
        raise UserError(verdict['error'])
      return [Member(**m) for m in verdict['members']], {0: line}
    except (OSError, ValueError, KeyError, TypeError) as e:
      reason = getattr(e, 'strerror', None) or str(e)
      if line is not None:
        line.close()
    time.sleep(_RETRY)
  raise UserError(
      f'Process 0 did not answer {me} at --coordinator_address={address} within '
      f'{timeout:g} s: {reason}. See what process 0 says, and whether {me.host} '
      'reaches that address and port; more time: --start_timeout=SECONDS.')


def _verdict(line, deadline):
  line.socket.settimeout(1.0)
  while time.monotonic() < deadline:
    # What comes after the verdict is for the watch.
    messages = line.receive(one=True)
    if messages is None:
      raise ValueError('it hung up; another program or run may be using the port')
    if messages:
      line.socket.settimeout(None)
      return messages[0]
  raise ValueError('it took the call and never answered')
