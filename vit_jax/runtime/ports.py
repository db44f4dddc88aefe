"""Free ports of this machine, without a race for them."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
  """A free port that stays free for who asks for it by its number.

  While entered, a socket is bound to the port and does not listen. So the system gives
  the number to nobody who asks for any port, while servers that set SO_REUSEADDR, as
  ours and JAX's do, can listen on it.
  """
  with socket.socket() as holder:
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(('localhost', 0))
    yield holder.getsockname()[1]
