"""An HTTP proxy on loopback that counts what passes and does wrong what it is told."""

import contextlib
import dataclasses
import http.client
import http.server
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator

_HOP_BY_HOP = {
    'connection', 'keep-alive', 'transfer-encoding', 'content-length', 'expect'}
# A thread serves one client's connection, and has one to the server.
_thread = threading.local()


@dataclasses.dataclass(frozen=True)
class Request:
  """As a client sent it; the proxy has read all of it."""
  method: str
  path: str
  headers: dict[str, str]
  body: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
  status: int
  headers: list[tuple[str, str]]
  body: bytes


@dataclasses.dataclass
class Seen:
  """One request that came, and what it has got."""
  method: str
  path: str
  status: int = 0  # not answered
  received: int = 0
  sent: int = 0


@dataclasses.dataclass
class _Fault:
  kind: str
  times: int
  method: str
  match: str
  status: int = 0
  after: int = 0

  def befalls(self, method: str, path: str) -> bool:
    return (self.times > 0 and self.method in ('', method)
            and re.search(self.match, path) is not None)


class FaultProxy:
  """Stands between clients and a server; every fault hits the next `times` requests.

  `method` and `match` (a pattern that is searched for in path and query) choose whom.
  """

  def __init__(self) -> None:
    self.upstream = ''  # HOST:PORT, to be set before the first request
    self.latency = 0.0  # seconds before every answer
    self.seen: list[Seen] = []
    self._faults: list[_Fault] = []
    self._lock = threading.Lock()
    self._go_on = threading.Event()
    self._server = _Server(('127.0.0.1', 0), _Handler)
    self._server.proxy = self
    self.address = f'127.0.0.1:{self._server.server_address[1]}'
    self.url = f'http://{self.address}'
    threading.Thread(target=self._server.serve_forever, args=(0.05,),
                     daemon=True).start()

  def fail(self, status: int, times: int = 1, method: str = '',
           match: str = '') -> None:
    """Answers with an error, without asking the server."""
    self._add(_Fault('fail', times, method, match, status=status))

  def cut(self, after: int = 0, times: int = 1, method: str = '',
          match: str = '') -> None:
    """Closes the connection after so many bytes of the answer's body."""
    self._add(_Fault('cut', times, method, match, after=after))

  def cut_upload(self, times: int = 1, method: str = '', match: str = '') -> None:
    """Closes the connection before the request's body was read."""
    self._add(_Fault('cut_upload', times, method, match))

  def lose_answer(self, times: int = 1, method: str = '', match: str = '') -> None:
    """Closes the connection after the server has done what was asked."""
    self._add(_Fault('lose_answer', times, method, match))

  def stall(self, times: int = 1, method: str = '', match: str = '') -> None:
    """Says nothing until `reset`."""
    self._add(_Fault('stall', times, method, match))

  def reset(self) -> None:
    """Forgets faults, counts and latency, and lets stalled requests end."""
    with self._lock:
      self._go_on.set()
      self._go_on = threading.Event()
      self._faults, self.seen, self.latency = [], [], 0.0

  def count(self, method: str = '', match: str = '') -> int:
    """How many requests came, since the last `reset`."""
    with self._lock:
      return sum(method in ('', s.method) and re.search(match, s.path) is not None
                 for s in self.seen)

  def traffic(self) -> tuple[int, int]:
    """Bytes of bodies (received from clients, sent to them), since `reset`."""
    with self._lock:
      return sum(s.received for s in self.seen), sum(s.sent for s in self.seen)

  def close(self) -> None:
    self.reset()
    self._server.shutdown()
    self._server.server_close()

  def forward(self, request: Request) -> Answer:
    """What the server says; subclasses translate."""
    connection = self._connection()
    connection.request(request.method, request.path, request.body, request.headers)
    response = connection.getresponse()
    return Answer(response.status, response.getheaders(), response.read())

  def error_body(self, status: int) -> bytes:
    return str(status).encode()

  def _connection(self) -> http.client.HTTPConnection:
    if not hasattr(_thread, 'connection'):
      _thread.connection = http.client.HTTPConnection(self.upstream, timeout=60)
    return _thread.connection

  def _add(self, fault: _Fault) -> None:
    with self._lock:
      self._faults.append(fault)

  def note(self, seen: Seen) -> tuple[_Fault | None, threading.Event]:
    """The fault that befalls a request, and what ends a stall."""
    with self._lock:
      self.seen.append(seen)
      for fault in self._faults:
        if fault.befalls(seen.method, seen.path):
          fault.times -= 1
          return fault, self._go_on
      return None, self._go_on


class GcsProxy(FaultProxy):
  """In front of fake-gcs-server, and nearer to Google's API than that is.

  The server heeds `ifGenerationMatch` in multipart uploads alone. Simple uploads, which
  TensorStore sends, are therefore turned into those. Nothing here needs other
  conditions; they are refused lest a test believe in them.
  """

  def forward(self, request: Request) -> Answer:
    if 'ifGenerationMatch=' not in request.path or 'ipart' in request.path:
      return super().forward(request)
    name = re.search(r'[?&]name=([^&]*)', request.path)
    if 'uploadType=media' not in request.path or not name:
      return Answer(501, [], self.error_body(501))
    path = request.path.replace('uploadType=media', 'uploadType=multipart')
    path = path.replace(name[0], name[0][0] + 'x=', 1)
    headers = {k: v for k, v in request.headers.items() if k.lower() != 'content-type'}
    name_of_object = urllib.parse.unquote_plus(name[1])
    described = json.dumps({'name': name_of_object}).encode()
    border = 'vit_jax-border'
    body = b'\r\n'.join([
        f'--{border}'.encode(), b'Content-Type: application/json', b'', described,
        f'--{border}'.encode(), b'Content-Type: application/octet-stream', b'',
        request.body, f'--{border}--'.encode(), b''])
    headers['Content-Type'] = f'multipart/related; boundary={border}'
    return super().forward(Request(request.method, path, headers, body))

  def error_body(self, status: int) -> bytes:
    return json.dumps({'error': {
        'code': status, 'message': http.client.responses.get(status, '?')}}).encode()


class S3Proxy(FaultProxy):
  """In front of moto."""

  _CODES = {403: 'AccessDenied', 404: 'NoSuchKey', 500: 'InternalError',
            503: 'SlowDown'}

  def error_body(self, status: int) -> bytes:
    code = self._CODES.get(status, 'Unknown')
    return (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
            f'<Message>{code}</Message></Error>').encode()


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  request_queue_size = 256
  proxy: FaultProxy

  def handle_error(self, request: object, client_address: object) -> None:
    """Clients go away at any time, in tests on purpose."""


class _Cut(Exception):
  """The connection ends here."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  # An answer leaves as a whole and at once.
  disable_nagle_algorithm = True
  wbufsize = -1

  def handle(self) -> None:
    try:
      super().handle()
    finally:
      if hasattr(_thread, 'connection'):
        _thread.connection.close()

  def handle_expect_100(self) -> bool:
    go_on = super().handle_expect_100()
    self.wfile.flush()
    return go_on

  def _any(self) -> None:
    assert isinstance(self.server, _Server)
    proxy = self.server.proxy
    seen = Seen(self.command, self.path)
    fault, go_on = proxy.note(seen)
    kind = fault.kind if fault else ''
    with _closing_on_cut(self):
      if kind == 'cut_upload':
        raise _Cut
      body = self._body()
      seen.received = len(body)
      if proxy.latency:
        time.sleep(proxy.latency)
      if kind == 'stall':
        go_on.wait()
        raise _Cut
      if fault and kind == 'fail':
        answer = Answer(fault.status, [], proxy.error_body(fault.status))
      else:
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() not in _HOP_BY_HOP}
        answer = proxy.forward(Request(self.command, self.path, headers, body))
      if kind == 'lose_answer':
        raise _Cut
      seen.status = answer.status
      cut_after = fault.after if fault and kind == 'cut' else None
      if self.command != 'HEAD':
        seen.sent = len(answer.body[:cut_after])
      self._send(answer, cut_after)

  def _body(self) -> bytes:
    if 'chunked' in self.headers.get('Transfer-Encoding', ''):
      parts = []
      while size := int(self.rfile.readline().split(b';')[0], 16):
        parts.append(self.rfile.read(size))
        self.rfile.readline()
      self.rfile.readline()
      return b''.join(parts)
    return self.rfile.read(int(self.headers.get('Content-Length') or 0))

  def _send(self, answer: Answer, cut_after: int | None) -> None:
    self.send_response_only(answer.status)
    has_body = self.command != 'HEAD' and answer.status not in (204, 304)
    size = None
    for name, value in answer.headers:
      if name.lower() == 'content-length':
        size = value
      if name.lower() not in _HOP_BY_HOP:
        self.send_header(name, value)
    if answer.status not in (204, 304):
      self.send_header('Content-Length', str(len(answer.body)) if has_body
                       else size or '0')
    self.end_headers()
    if has_body:
      self.wfile.write(answer.body[:cut_after])
    self.wfile.flush()
    if cut_after is not None:
      raise _Cut

  do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _any

  def log_message(self, format: str, *args: object) -> None:
    pass


@contextlib.contextmanager
def _closing_on_cut(handler: _Handler) -> Iterator[None]:
  try:
    yield
  except _Cut:
    handler.close_connection = True
    with contextlib.suppress(OSError):
      handler.connection.shutdown(socket.SHUT_RDWR)
