"""The rendezvous of a run of several processes, before JAX connects them.

JAX waits for all processes and, when one doesn't come, aborts the others without
saying which. So process 0 first listens on the coordinator's port itself, until
every other process has told its number there; then it closes the port, which is
JAX's from there on. The connections stay open for the failure detector.
"""

import contextlib
import dataclasses
import errno
import hmac
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from vit_jax.parallel.connection import Connection, Message
from vit_jax.runtime.errors import UserError
from vit_jax.runtime.stopping import LOST_PEER

# A secret of the run, which launchers set: who listens on the port's network is then no
# process of it. All processes have the same, or none.
TOKEN_VARIABLE = 'VIT_JAX_RUN_TOKEN'

_PROTOCOL = 'vit_jax rendezvous 1'
# A restarted run may find the port still held by the process 0 that is ending.
_PORT_TIMEOUT = 20.0
_RETRY = 0.3


@dataclasses.dataclass(frozen=True)
class Member:
  """One process of the run."""
  process_id: int
  host: str
  pid: int

  def __str__(self) -> str:
    return f'process {self.process_id} ({self.host}, pid {self.pid})'


def read_member(values: Any) -> Member:
  """A member as another process has described it.

  Raises:
    ValueError: if it is none.
  """
  if not isinstance(values, dict) or set(values) != {'process_id', 'host', 'pid'}:
    raise ValueError('not a member')
  process_id, host, pid = values['process_id'], values['host'], values['pid']
  # True is no number here.
  if type(process_id) is not int or process_id < 0 or type(pid) is not int or pid < 0:
    raise ValueError('not a process')
  if not isinstance(host, str) or len(host) > 255 or not host.isprintable():
    raise ValueError('not a host')
  return Member(process_id, host, pid)


class Rendezvous(NamedTuple):
  """Who came, and how to reach them."""
  # All processes, by their numbers.
  members: list[Member]
  # Process 0 has a connection to every other process, the others one to process 0.
  connections: dict[int, Connection]


def split_address(address: str) -> tuple[str, int]:
  """('host', port) of 'host:port', also of '[::1]:port'."""
  host, colon, port = address.rpartition(':')
  if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise UserError(
        f'--coordinator_address={address!r}; expected HOST:PORT, where process 0 '
        'runs and a free port there, such as 10.0.0.1:1234.')
  return host.strip('[]'), int(port)


def join(address: str, num_processes: int, process_id: int, timeout: float,
         listener: socket.socket | None = None) -> Rendezvous:
  """Waits until all processes have come.

  Args:
    address: 'host:port' of process 0.
    num_processes: of the run.
    process_id: of this process.
    timeout: seconds that process 0 waits for the others, and they for it.
    listener: of process 0: a socket that listens at the address already. It is closed
      once everybody has come.

  Raises:
    UserError: on every process that is there, if not all of them came or their
      settings contradict each other. It names them.
  """
  me = Member(process_id, socket.gethostname(), os.getpid())
  if process_id:
    return _report_to_server(address, num_processes, me, timeout)
  listener = listener or _listen(split_address(address)[1])
  return _Server(listener, num_processes, me, timeout).run()


class _Server:
  """Process 0's side.

  Attributes:
    members: who has come so far, by process number.
  """

  def __init__(self, listener: socket.socket, num_processes: int, me: Member,
               timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
    self.members = {0: me}
    self._listener = listener
    self._size, self._me = num_processes, me
    self._token = _token()
    # Whether what keeps all from coming is their settings.
    self._conflict = False
    self._timeout, self._clock = timeout, clock
    self._connections: dict[int, Connection] = {}
    self._selector = selectors.DefaultSelector()

  def run(self) -> Rendezvous:
    with self._listener, self._selector:
      error = self._collect()
    members = [self.members[i] for i in sorted(self.members)]
    late = bool(error) and not self._conflict
    self._reply({'error': error, 'late': late} if error else {
        'members': [dataclasses.asdict(m) for m in members]})
    if error:
      raise NotAllCame(error) if late else UserError(error)
    return Rendezvous(members, self._connections)

  def _collect(self) -> str:
    """Serves until all have come; returns what keeps them from it, or ''."""
    # A client may have hung up before it is answered: never wait for the next one.
    self._listener.setblocking(False)
    self._selector.register(self._listener, selectors.EVENT_READ)
    deadline = self._clock() + self._timeout
    while len(self.members) < self._size:
      left = deadline - self._clock()
      if left <= 0:
        return _missing(self._size, self.members.values(), self._timeout)
      for key, _ in self._selector.select(min(left, 1.0)):
        connection: Connection | None = key.data
        if connection is None:
          self._accept()
          continue
        try:
          self._serve(connection)
        except _SettingsConflict as e:
          self._conflict = True
          return str(e)
    return ''

  def _accept(self) -> None:
    try:
      connected, _ = self._listener.accept()
    except OSError:
      return  # It has hung up.
    connected.setblocking(False)
    self._selector.register(connected, selectors.EVENT_READ, Connection(connected))

  def _serve(self, connection: Connection) -> None:
    try:
      messages = connection.receive()
      if messages is not None:
        for message in messages:
          self._register(message, connection)
        return
    except _SettingsConflict as e:
      with contextlib.suppress(OSError):
        connection.socket.setblocking(True)
        connection.send({'error': str(e)})
      raise
    except _Refused as e:
      with contextlib.suppress(OSError):
        connection.send({'error': str(e)})
    except (ValueError, KeyError, TypeError):
      pass  # Not one of ours.
    # It ended while it waited; perhaps it is started again.
    for number in [n for n, c in self._connections.items() if c is connection]:
      del self._connections[number], self.members[number]
    self._selector.unregister(connection.socket)
    connection.close()

  def _register(self, message: Message, connection: Connection) -> None:
    if message['protocol'] != _PROTOCOL:
      raise ValueError(message['protocol'])
    member = read_member(message['member'])
    if type(message['size']) is not int:
      raise ValueError(message['size'])
    if not hmac.compare_digest(
        str(message.get('token', '')).encode(errors='replace'), self._token.encode()):
      raise _Refused(
          f'{member} was started with another {TOKEN_VARIABLE} than {self._me}: it '
          'belongs to another run, or was started by other means. Start all processes '
          'by one launcher, or without that variable.')
    if message['size'] != self._size:
      raise _SettingsConflict(
          f'{member} was started with --num_processes={message["size"]}, {self._me} '
          f'with --num_processes={self._size}. Give all the same number.')
    if member.process_id >= self._size:
      raise ValueError(member.process_id)
    if member.process_id in self.members:
      other = self.members[member.process_id]
      raise _SettingsConflict(
          f'Two processes came as number {member.process_id}: on {other.host} with '
          f'pid {other.pid} and on {member.host} with pid {member.pid}. Give every '
          f'process its own --process_id from 0 to {self._size - 1}.')
    self.members[member.process_id] = member
    self._connections[member.process_id] = connection

  def _reply(self, message: Message) -> None:
    for connection in self._connections.values():
      with contextlib.suppress(OSError):  # Gone since; the failure detector says so.
        connection.socket.setblocking(True)
        connection.send(message)


class NotAllCame(UserError):
  """Processes are missing: those that came may be started again."""
  exit_status = LOST_PEER


class _Refused(Exception):
  """A process that is told why it does not belong here; the run goes on waiting."""


class _SettingsConflict(Exception):
  """Processes of one run that were started with settings that don't fit."""


def _token() -> str:
  return os.environ.get(TOKEN_VARIABLE, '')


def _missing(size: int, members: Iterable[Member], timeout: float) -> str:
  """The error that names who did not come."""
  members = sorted(members, key=lambda m: m.process_id)
  there = {m.process_id for m in members}
  absent = ', '.join(str(i) for i in range(size) if i not in there)
  return (
      f'Of {size} processes, {len(members)} came within {timeout:g} s. Missing: '
      f'process {absent}. There: {", ".join(str(m) for m in members)}. See what the '
      'missing ones say and whether they reach --coordinator_address; more time: '
      '--start_timeout=SECONDS.')


def _listen(port: int) -> socket.socket:
  """A listening socket for IPv4 and, where there is one, IPv6."""
  give_up = time.monotonic() + _PORT_TIMEOUT
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


def _report_to_server(
    address: str, size: int, me: Member, timeout: float) -> Rendezvous:
  """Every other process's side."""
  host, port = split_address(address)
  deadline = time.monotonic() + timeout
  reason = 'no try'
  while time.monotonic() < deadline:
    connection = None
    try:
      connection = Connection(socket.create_connection((host, port), timeout=5))
      connection.send({'protocol': _PROTOCOL, 'size': size, 'token': _token(),
                       'member': dataclasses.asdict(me)})
      # Process 0 may have come last, and then waits as long as we did.
      reply = _receive_reply(connection, time.monotonic() + timeout + 5)
      if 'error' in reply:
        kind = NotAllCame if reply.get('late') is True else UserError
        raise kind(str(reply['error']))
      return Rendezvous([read_member(m) for m in reply['members']], {0: connection})
    except (OSError, ValueError, KeyError, TypeError) as e:
      reason = getattr(e, 'strerror', None) or str(e)
      if connection is not None:
        connection.close()
    time.sleep(_RETRY)
  raise NotAllCame(
      f'Process 0 did not answer {me} at --coordinator_address={address} within '
      f'{timeout:g} s: {reason}. See what process 0 says, and whether {me.host} '
      'reaches that address and port; more time: --start_timeout=SECONDS.')


def _receive_reply(connection: Connection, deadline: float) -> Message:
  connection.socket.settimeout(1.0)
  while time.monotonic() < deadline:
    # What comes after the reply is for the failure detector.
    messages = connection.receive(one=True)
    if messages is None:
      raise ValueError('it hung up; another program or run may be using the port')
    if messages:
      connection.socket.settimeout(None)
      return messages[0]
  raise ValueError('it took the call and never answered')
