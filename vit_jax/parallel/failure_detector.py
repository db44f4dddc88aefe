"""Watches, from start to end, that the other processes of the run are alive.

A computation over several processes hangs or fails with an obscure message when one
of them dies, and JAX's own health check aborts the others after its timeout. Here
every process keeps a connection to process 0. It breaks the moment a process is
killed; one that merely falls silent is missed after `SILENCE` seconds. Process 0 tells
the others, and all end with a message that names the process.
"""

import os
import selectors
import sys
import threading
import time

from vit_jax.parallel.roll_call import Line, Member
from vit_jax.runtime.stopping import START_AGAIN

# Seconds without a sign of life until a process counts as lost.
SILENCE = 90.0
_SIGN_EVERY = 5.0
# What the computation itself says of a loss may come before the news of it.
_NEWS_WITHIN = 5.0
# Time that this process's own last words may take.
_LAST_WORDS = 15.0
# The same command will go on from the newest checkpoint.
LOST_STATUS = START_AGAIN


class Watch:
  """A thread that ends this process soon after another one has ended early."""

  def __init__(self, members: list[Member], process_id: int, lines: dict[int, Line]):
    self._members = {m.process_id: m for m in members}
    self._me = process_id
    self._lines = dict(lines)
    self._lock = threading.Lock()
    self._ending = self._said = False
    # (exit status, message) once another process has ended early.
    self._news = None
    self._told = threading.Event()
    self._finished = threading.Event()
    self._thread = threading.Thread(target=self._run, daemon=True, name='watch')

  def start(self):
    for line in self._lines.values():
      line.socket.settimeout(0.0)
    self._thread.start()

  def leave(self, error: BaseException | None = None, status: int = 0):
    """Takes leave of the others: all is done, or `error` happened here.

    With an error, the process ends with `status` a little later even if something
    that waits for the others keeps it.
    """
    if error is None:
      self._ending = True
      self._send({'bye': ''})
      return
    if _may_be_a_consequence(error) and self._told.wait(_NEWS_WITHIN):
      self._end()
    self._ending = True
    self._send({'error': _first_line(error)})
    _later(_LAST_WORDS, self._exit, status)
    self._let_others_end()

  def _let_others_end(self):
    if self._me == 0:
      # Without process 0, JAX aborts the others before they can say why they end.
      self._finished.wait(_LAST_WORDS / 3)

  def _run(self):
    selector = selectors.DefaultSelector()
    heard = {}
    for number, line in self._lines.items():
      selector.register(line.socket, selectors.EVENT_READ, number)
      heard[number] = time.monotonic()
    next_sign = 0.0
    while heard:
      if time.monotonic() >= next_sign:
        self._send({'alive': ''})
        next_sign = time.monotonic() + _SIGN_EVERY
      for key, _ in selector.select(1.0):
        number = key.data
        messages = _receive(self._lines[number])
        heard[number] = time.monotonic()
        gone = messages is None
        for message in messages or ():
          gone = self._hear(number, message) or gone
        if messages is None:
          self._lost(number, 'ended without a word: it was killed, ran out of memory, '
                     'or its machine is gone')
        if gone:
          selector.unregister(key.fileobj)
          del heard[number]
      for number, at in list(heard.items()):
        if time.monotonic() - at > SILENCE:
          selector.unregister(self._lines[number].socket)
          del heard[number]
          self._lost(number, f'has given no sign of life for {SILENCE:g} s: it or its '
                     'machine hangs, or the network between us is gone')
    self._finished.set()

  def _hear(self, number, message) -> bool:
    """Handles a message; returns whether it was the sender's last."""
    if 'lost' in message:
      self._tell(message['status'], message['lost'])
    elif 'error' in message:
      self._report(number, 1, f'ended with an error: {message["error"]}')
    return 'bye' in message or 'error' in message

  def _lost(self, number, what):
    self._report(number, LOST_STATUS, what)

  def _report(self, number, status, what):
    text = (f'{self._members[number]} of {len(self._members)} {what}. The run cannot '
            'go on without it.')
    if status == LOST_STATUS:
      text += ' Start all processes again to go on from the newest checkpoint.'
    # Only process 0 has anybody to tell.
    self._send({'lost': text, 'status': status}, but=number)
    self._tell(status, text)

  def _tell(self, status, text):
    if self._ending or self._news:
      return
    self._news = status, text
    self._told.set()
    if status == LOST_STATUS:
      # The computation may hang for good, and JAX abort this process any moment.
      self._say()
    # An error of another process is probably ours too: the main thread may be
    # about to say it. Not in this thread, which has to see the others end.
    _later(0.0 if status == LOST_STATUS else 1.0, self._end)

  def _say(self):
    with self._lock:
      if not self._said:
        self._said = True
        sys.stdout.flush()
        print(f'vit_jax: error: {self._news[1]}', file=sys.stderr, flush=True)

  def _end(self):
    if self._ending:
      return
    self._say()
    self._let_others_end()
    self._exit(self._news[0])

  def _exit(self, status):
    # Not `sys.exit`: that would wait at JAX's barrier for a process that is gone.
    try:
      sys.stdout.flush()
      sys.stderr.flush()
    finally:
      os._exit(status)

  def _send(self, message, but=None):
    for number, line in self._lines.items():
      if number != but:
        try:
          line.send(message)
        except OSError:
          pass  # Gone too; the thread will notice.


def _may_be_a_consequence(error):
  """Whether `error` may come from the loss of another process."""
  return isinstance(error, Exception) and not type(error).__module__.startswith(
      'vit_jax.')


def _later(seconds, function, *args):
  timer = threading.Timer(seconds, function, args)
  timer.daemon = True
  timer.start()


def _receive(line):
  try:
    return line.receive()
  except ValueError:
    return None


def _first_line(error):
  text = str(error).strip().splitlines()
  name = type(error).__name__
  return f'{name}: {text[0][:300]}' if text else name
