"""The stand-in's HTTPS server."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from migrationhub.lab.vme.appliance import Appliance
from migrationhub.lab.vme.request import Request
from migrationhub.lab.vme.tls import server_context

Json = dict[str, Any]
LIMIT = 4 << 20
HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1>nginx</body></html>"


class Server:
    """Serves an appliance on 127.0.0.1. `port` 0 takes a free one."""

    def __init__(self, appliance: Appliance, port: int = 0) -> None:
        self.appliance = appliance
        context = server_context(appliance.settings.directory, appliance.settings.name)
        handler = type("BoundHandler", (Handler,), {"appliance": appliance})
        self._http = TlsServer(("127.0.0.1", port), handler, context)
        self.port = int(self._http.server_address[1])
        self.url = appliance.url = f"https://127.0.0.1:{self.port}"
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """In a thread of its own."""
        self.appliance.start()
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def serve(self) -> None:
        """Until `stop` or a signal."""
        self.appliance.start()
        self._http.serve_forever()

    def stop(self) -> None:
        """As a crash would: pending acts stay noted, kept connections break."""
        self._http.shutdown()
        self._http.server_close()
        self._http.cut_all()
        self.appliance.stop()


class TlsServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type, context: ssl.SSLContext) -> None:
        self._context = context
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(60)
        # The handshake is done in the connection's own thread: one that hangs holds nobody up.
        wrapped = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), (OSError, EOFError)):  # a client that went away is no error of ours
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    appliance: Appliance
    protocol_version = "HTTP/1.1"
    server_version = "Apache"
    sys_version = ""
    wbufsize = -1  # head and body in one packet: two would wait 40 ms for each other
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: paths and bodies are in the journal."""

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_DELETE = do_GET

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        if parts.path.startswith("/lab/"):
            self._control(parts.path, body)
            return
        fault = self.appliance.faults.answer(self.command, parts.path)
        if fault and self._instead(fault):
            return
        if parts.path == "/oauth/token" and self.command == "POST":
            status, answer = self.appliance.tokens.grant(dict(parse_qsl(body.decode("utf-8", "replace"))))
        else:
            status, answer = self._answer(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), body)
        if fault and fault["kind"] == "cut_after":
            self._cut()
            return
        self._send(status, answer)

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Json]:
        header = self.headers.get("Authorization", "")
        account = self.appliance.tokens.account(header)
        if account is None and path != "/api/ping":
            if not header:
                return 401, {"error": "unauthorized", "error_description": "Full authentication is required"}
            token = header.partition(" ")[2]
            return 401, {"error": "invalid_token", "error_description": f"Invalid access token: {token}"}
        try:
            parsed = json.loads(body) if body else {}
        except ValueError:
            return 400, {"success": False, "msg": "Invalid JSON"}
        request = Request(
            self.command,
            path,
            query,
            parsed if isinstance(parsed, dict) else {},
            work_key=self.headers.get("X-Request-Id", ""),
            account=account,
        )
        try:
            return self.appliance.answer(request)
        except Exception:  # noqa: BLE001  as an appliance does: 500 without a reason
            traceback.print_exc()
            return 500, {"success": False, "msg": "Internal Server Error - We had a problem with our server."}

    def _instead(self, fault: Json) -> bool:
        """Answer with a fault instead of the truth; False where the request goes on."""
        kind = fault["kind"]
        if kind == "cut_before":
            self._cut()
        elif kind == "500":
            self._send(500, {"success": False, "msg": fault.get("msg", "Internal Server Error - Try again later.")})
        elif kind == "429":
            msg = "Too Many Requests - You're asking too much of the server. Slow down!"
            headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
            self._send(429, {"msg": msg}, headers)
        elif kind == "503":
            self._send(503, {"msg": "Service Unavailable - We're temporarily offline for maintenance."})
        elif kind == "html":
            status = HTTPStatus(fault.get("status", 502))
            self._page(status, HTML.format(f"{status.value} {status.phrase}"))
        elif kind == "bare":
            self._page(int(fault.get("status", 404)), "")
        elif kind == "refused":
            refusal = {"success": False, "msg": fault.get("msg", "No"), "errors": fault.get("errors", {})}
            self._send(int(fault.get("status", 200)), refusal)
        else:
            if kind == "slow":
                time.sleep(float(fault.get("delay", 1)))
            elif kind == "expire":
                self.appliance.tokens.expire()
            return False
        return True

    def _control(self, path: str, body: bytes) -> None:
        """What only tests use: /lab/faults, /lab/discovered."""
        if self.command == "POST" and path == "/lab/faults":
            self.appliance.faults.order(json.loads(body or b"[]"))
        elif self.command == "POST" and path == "/lab/discovered":
            self.appliance.discovered = json.loads(body or b"[]")
        else:
            self._send(404, {"msg": "no such control"})
            return
        self._send(200, {"success": True})

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(min(length, LIMIT)) if length else b""

    def _send(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        self._write(status, json.dumps(body).encode(), "application/json;charset=UTF-8", headers or {})

    def _page(self, status: int, html: str) -> None:
        self._write(status, html.encode(), "text/html", {})

    def _write(self, status: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _cut(self) -> None:
        """Close without an answer."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
