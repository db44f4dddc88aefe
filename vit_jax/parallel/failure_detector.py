"""Detects, from start to end, that another process of the run has failed.

A computation over several processes hangs or fails with an obscure message when one
of them dies, and JAX's own health check aborts the others after its timeout. Here
every process keeps a connection to process 0. It breaks the moment a process is
killed; one that merely falls silent is missed after `HEARTBEAT_TIMEOUT` seconds.
Process 0 tells the others, and all end with a message that names the process.
"""

import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import NamedTuple

from vit_jax.parallel.connection import Connection, Message
from vit_jax.parallel.rendezvous import Member
from vit_jax.runtime.errors import first_line
from vit_jax.runtime.stopping import LOST_PEER, end_process

# Seconds without a heartbeat until a process counts as lost.
HEARTBEAT_TIMEOUT = 90.0
_HEARTBEAT_INTERVAL = 5.0
# What the computation itself says of a loss may come before the news of it.
_NEWS_TIMEOUT = 5.0
# Time that this process may take to end by itself after an error of its own.
_END_TIMEOUT = 15.0


class Failure(NamedTuple):
  """How another process ended early."""
  # With which this one is to end.
  status: int
  text: str


class FailureDetector:
  """A thread that ends this process soon after another one has failed.

  Args:
    members: all processes of the run.
    process_id: of this process.
    connections: process number -> connection, see `rendezvous.Rendezvous`.
    heartbeat_timeout: seconds without a heartbeat until a process counts as lost.
    news_timeout: seconds that an error of the computation waits for the news that
      another process caused it.
  """

  def __init__(self, members: Iterable[Member], process_id: int,
               connections: Mapping[int, Connection],
               heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
               news_timeout: float = _NEWS_TIMEOUT) -> None:
    self._members = {m.process_id: m for m in members}
    self._process_id = process_id
    self._connections = dict(connections)
    self._heartbeat_timeout, self._news_timeout = heartbeat_timeout, news_timeout
    self._lock = threading.Lock()
    self._leaving = self._printed = False
    # Done once another process has failed.
    self._failure: futures.Future[Failure] = futures.Future()
    # Once no other process is connected.
    self._others_gone = threading.Event()
    self._thread = threading.Thread(
        target=self._run, daemon=True, name='failure detector')

  def start(self) -> None:
    for connection in self._connections.values():
      connection.socket.settimeout(0.0)
    self._thread.start()

  def leave(self, error: BaseException | None = None, status: int = 0) -> None:
    """Takes leave of the others: all is done, or `error` happened here.

    With an error, the process ends with `status` a little later even if something
    that waits for the others keeps it.
    """
    if error is None:
      self._leaving = True
      self._send({'bye': ''})
      return
    if _may_be_a_consequence(error):
      try:
        self._end(self._failure.result(self._news_timeout))
      except TimeoutError:
        pass  # It is our own.
    self._leaving = True
    self._send({'error': _describe(error)})
    _later(_END_TIMEOUT, end_process, status)
    self._let_others_end()

  def _let_others_end(self) -> None:
    if self._process_id == 0:
      # Without process 0, JAX aborts the others before they can say why they end.
      self._others_gone.wait(_END_TIMEOUT / 3)

  def _run(self) -> None:
    selector = selectors.DefaultSelector()
    # Process -> when it was heard of last; those that are connected still.
    heard: dict[int, float] = {}
    for number, connection in self._connections.items():
      selector.register(connection.socket, selectors.EVENT_READ, number)
      heard[number] = time.monotonic()
    next_heartbeat = 0.0
    while heard:
      if time.monotonic() >= next_heartbeat:
        self._send({'alive': ''})
        next_heartbeat = time.monotonic() + _HEARTBEAT_INTERVAL
      for key, _ in selector.select(1.0):
        number: int = key.data
        heard[number] = time.monotonic()
        if self._receive(number):
          selector.unregister(key.fileobj)
          del heard[number]
      for number, at in list(heard.items()):
        if time.monotonic() - at > self._heartbeat_timeout:
          selector.unregister(self._connections[number].socket)
          del heard[number]
          self._on_lost(
              number, f'has given no sign of life for {self._heartbeat_timeout:g} s: '
              'it or its machine hangs, or the network between us is gone')
    self._others_gone.set()

  def _receive(self, number: int) -> bool:
    """Handles what a process sent; returns whether nothing more will come."""
    try:
      messages = self._connections[number].receive()
    except ValueError:
      messages = None
    if messages is None:
      self._on_lost(number, 'ended without a word: it was killed, ran out of memory, '
                    'or its machine is gone')
      return True
    # All of them, whichever is the last.
    return any([self._on_message(number, message) for message in messages])

  def _on_message(self, number: int, message: Message) -> bool:
    """Handles a message; returns whether it was the sender's last."""
    if 'lost' in message:
      # Process 0 alone tells of others.
      if number == 0 and type(message.get('status')) is int:
        self._on_failure(Failure(message['status'], str(message['lost'])))
    elif 'error' in message:
      self._report(number, 1, f'ended with an error: {message["error"]}')
    return 'bye' in message or 'error' in message

  def _on_lost(self, number: int, what: str) -> None:
    self._report(number, LOST_PEER, what)

  def _report(self, number: int, status: int, what: str) -> None:
    text = (f'{self._members[number]} of {len(self._members)} {what}. The run cannot '
            'go on without it.')
    if status == LOST_PEER:
      text += ' Start all processes again to go on from the newest checkpoint.'
    # Only process 0 has anybody to tell.
    self._send({'lost': text, 'status': status}, but=number)
    self._on_failure(Failure(status, text))

  def _on_failure(self, failure: Failure) -> None:
    if self._leaving or self._failure.done():
      return
    self._failure.set_result(failure)
    lost = failure.status == LOST_PEER
    if lost:
      # The computation may hang for good, and JAX abort this process any moment.
      self._print(failure)
    # An error of another process is probably ours too: the main thread may be
    # about to say it. Not in this thread, which has to see the others end.
    _later(0.0 if lost else 1.0, self._end, failure)

  def _print(self, failure: Failure) -> None:
    with self._lock:
      if not self._printed:
        self._printed = True
        sys.stdout.flush()
        print(f'vit_jax: error: {failure.text}', file=sys.stderr, flush=True)

  def _end(self, failure: Failure) -> None:
    if self._leaving:
      return
    self._print(failure)
    self._let_others_end()
    end_process(failure.status)

  def _send(self, message: Message, but: int | None = None) -> None:
    for number, connection in self._connections.items():
      if number != but:
        try:
          connection.send(message)
        except OSError:
          pass  # Gone too; the thread will notice.


def _may_be_a_consequence(error: BaseException) -> bool:
  """Whether `error` may come from the loss of another process."""
  return isinstance(error, Exception) and not type(error).__module__.startswith(
      'vit_jax.')


def _later(seconds: float, function: Callable[..., object], *args: object) -> None:
  timer = threading.Timer(seconds, function, args)
  timer.daemon = True
  timer.start()


def _describe(error: BaseException) -> str:
  """'UserError: the first line of its message'."""
  name, text = type(error).__name__, first_line(error)
  return name if text == name else f'{name}: {text[:300]}'
