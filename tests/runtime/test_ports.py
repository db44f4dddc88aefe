"""A reserved port: no accident gives it to anybody, and a server can have it."""

import contextlib
import socket
import struct

import pytest

from vit_jax.runtime.ports import reserved_port

# <linux/in.h>, since Linux 6.3: the ports that a socket may be given.
_IP_LOCAL_PORT_RANGE = 51


def _only(port):
  """A socket that has no choice but this port, where it may have any."""
  s = socket.socket()
  try:
    s.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE,
                 struct.pack('=I', port << 16 | port))
  except OSError:
    pytest.skip('this system cannot restrict the ports of a socket')
  return s


def test_servers_can_listen_on_it_and_be_reached():
  with reserved_port() as port, socket.create_server(('', port)) as server:
    with socket.create_connection(('localhost', port)) as client:
      client.sendall(b'x')
      connected, _ = server.accept()
      with connected:
        assert connected.recv(1) == b'x'


@pytest.mark.parametrize('reuse', [0, 1])
def test_nobody_who_asks_for_any_port_gets_it(reuse):
  with reserved_port() as port:
    with _only(port) as other, pytest.raises(OSError):
      other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
      other.bind(('localhost', 0))
    with socket.create_server(('localhost', 0)) as server, _only(port) as other:
      with pytest.raises(OSError):
        other.connect(server.getsockname())


def test_reserved_ports_differ():
  with contextlib.ExitStack() as stack:
    ports = [stack.enter_context(reserved_port()) for _ in range(20)]
  assert len(set(ports)) == 20
