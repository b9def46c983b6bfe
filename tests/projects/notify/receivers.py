"""What is sent to in tests: a real SMTP server and a real HTTP server on loopback, told how to answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """A handler of aiosmtpd. `answer` is given to the text, `rcpt` to each address; `hang` ends the connection with the
    text in hand."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[str] = []
        self.answer, self.rcpt, self.hang, self.slow = "250 OK", "250 OK", False, 0.0
        self.port = 0

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if self.rcpt.startswith("2"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("2"):
            found = message_from_bytes(envelope.content or b"", policy=policy.default)
            assert isinstance(found, EmailMessage)
            self.mails.append(found)
            self.to += envelope.rcpt_tos
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.hang:
            assert server.transport is not None
            server.transport.abort()
        return self.answer


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        box.port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


class Posts(ThreadingHTTPServer):
    """Keeps what is posted; `status` is the answer, `wait` how long it takes, `cut` ends without one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.found: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.wait, self.cut, self.location = 200, 0.0, False, ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/T0/geheim"


class Handler(BaseHTTPRequestHandler):
    server: Posts

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.found.append((self.path, dict(self.headers.items()), body))
        time.sleep(self.server.wait)
        if self.server.cut:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def web_server() -> Iterator[Posts]:
    server = Posts()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
