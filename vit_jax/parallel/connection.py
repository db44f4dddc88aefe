"""Messages between processes before, and beside, JAX: lines of JSON over a socket."""

import json
import socket
from typing import Any

Message = dict[str, Any]


class Connection:
  """One end; `socket` says whether its calls wait."""

  def __init__(self, connected: socket.socket) -> None:
    self.socket = connected
    self._received = b''

  def send(self, message: Message) -> None:
    self.socket.sendall(json.dumps(message).encode() + b'\n')

  def receive(self, one: bool = False) -> list[Message] | None:
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
    try:
      messages = [json.loads(line) for line in lines]
    except RecursionError as e:
      raise ValueError('not a message') from e
    if not all(isinstance(m, dict) for m in messages) or len(self._received) > 1 << 20:
      raise ValueError('not a message')
    return messages

  def close(self) -> None:
    self.socket.close()
