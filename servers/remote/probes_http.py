"""One HTTP request to a given address, whatever DNS says: Host header and TLS name are the probe's own.

Bounded in time and size: connect, headers and body together end at the deadline, and of the body no more than
`BODY_LIMIT` bytes are read.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field, replace

from migrationhub.lib.reading import split_url

BODY_LIMIT = 1 << 20  # bytes
_REDIRECTS = 5
_CONNECT_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Request:
    address: str
    port: int
    scheme: str = "http"
    path: str = "/"
    host: str = ""  # "" = the address
    verify: bool = True
    ca: str = ""  # PEM of a CA of one's own
    follow: bool = False
    timeout: float = 10.0  # seconds for everything


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    truncated: bool
    location: str = field(default="")


class HttpFailed(Exception):
    """No answer; the message is a part of a sentence. `determined` False: it says nothing about the service."""

    def __init__(self, words: str, *, determined: bool = True) -> None:
        self.determined = determined
        super().__init__(words)


def get(request: Request) -> Answer:
    """GET, redirects only where `follow` and only to the same host. Raises `HttpFailed`."""
    deadline = time.monotonic() + request.timeout
    for _ in range(_REDIRECTS + 1):
        answer = _once(request, deadline)
        if not (request.follow and answer.status in (301, 302, 303, 307, 308) and answer.location):
            return answer
        request = _redirected(request, answer.location)
    raise HttpFailed(f"redirects more than {_REDIRECTS} times")


def _once(request: Request, deadline: float) -> Answer:
    left = deadline - time.monotonic()
    if left <= 0:
        raise HttpFailed(f"gives no complete answer within {request.timeout:g} s")
    context = _context(request)
    try:
        sock = socket.create_connection((request.address, request.port), min(left, _CONNECT_TIMEOUT))
    except OSError as error:
        raise _failed(error, request, deadline) from error
    if context:
        sock = context.wrap_socket(sock, server_hostname=request.host or request.address, do_handshake_on_connect=False)
    # A server that drips byte by byte never runs into a socket's time-out: ending the socket ends the wait.
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _end, [sock])
    watchdog.daemon = True
    watchdog.start()
    try:
        sock.settimeout(max(0.1, deadline - time.monotonic()))
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        return _exchange(request, sock, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(error, request, deadline) from error
    finally:
        watchdog.cancel()
        sock.close()


def _exchange(request: Request, sock: socket.socket, deadline: float) -> Answer:
    connection = http.client.HTTPConnection(request.address, request.port)
    connection.sock = sock
    headers = {"Host": _host_header(request), "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", request.path, headers={**headers, "User-Agent": "migrationhub"})
    response = connection.getresponse()
    body = response.read(BODY_LIMIT + 1)
    if time.monotonic() >= deadline:
        raise TimeoutError
    if response.length and len(body) <= BODY_LIMIT:
        raise http.client.IncompleteRead(body, response.length)
    text = _decoded(body[:BODY_LIMIT], response.headers.get_content_charset() or "utf-8")
    return Answer(response.status, text, len(body) > BODY_LIMIT, response.headers.get("Location", ""))


def _context(request: Request) -> ssl.SSLContext | None:
    if request.scheme == "http":
        return None
    try:
        context = ssl.create_default_context(cadata=request.ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise HttpFailed(f"cannot be asked: the CA is not a certificate in PEM ({error})", determined=False) from None
    if not request.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _redirected(request: Request, location: str) -> Request:
    parts = split_url(location)
    if not any(parts):
        raise HttpFailed(f"redirects to what is no address ({location[:80]})")
    here = {request.host, request.address}
    if parts.hostname and parts.hostname not in here:
        raise HttpFailed(f"redirects to another host ({parts.hostname})")
    scheme = parts.scheme or request.scheme
    if scheme not in ("http", "https"):
        raise HttpFailed(f"redirects to {scheme}")
    default = request.port if not parts.netloc else 443 if scheme == "https" else 80
    path = parts.path or "/"
    if not path.startswith("/"):
        path = f"{request.path.partition('?')[0].rpartition('/')[0]}/{path}"
    query = f"?{parts.query}" if parts.query else ""
    return replace(request, scheme=scheme, port=parts.port or default, path=path + query)


def _host_header(request: Request) -> str:
    host = request.host or request.address
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[request.scheme]
    return host if request.port == default else f"{host}:{request.port}"


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of the plain socket: TLS would wait for its peer


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset, "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _failed(error: Exception, request: Request, deadline: float) -> HttpFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return HttpFailed(
            f"shows a certificate that does not hold for {request.host or request.address}: {error.verify_message}"
        )
    if isinstance(error, ConnectionRefusedError):
        return HttpFailed("refuses connections")
    if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
        return HttpFailed(f"gives no complete answer within {request.timeout:g} s")
    if isinstance(error, ssl.SSLError):
        return HttpFailed(f"does not speak TLS as expected ({error.reason or error})")
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return HttpFailed("breaks the connection before its answer is complete")
    if isinstance(error, http.client.HTTPException):
        return HttpFailed(f"does not answer in HTTP ({type(error).__name__})")
    said = getattr(error, "strerror", None) or str(error)
    return HttpFailed(f"cannot be asked from the hub ({said})", determined=False)
