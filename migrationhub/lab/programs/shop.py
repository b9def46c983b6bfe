"""The service “shop” of the lab: one page that shows the last order in the database.

Runs on the lab's hosts by itself, with psycopg or psycopg2. Environment: SHOP_ADDRESS and SHOP_PORT (where to
listen), DATABASE_HOST (a name or an address), DATABASE_PORT, DATABASE_NAME, DATABASE_USER, RESOLVER
(“address:port”: where names are asked for on hosts that share the machine's resolver; empty: the system's).
"""

import html
import os
import signal
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    import psycopg as database
except ImportError:
    import psycopg2 as database

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop</title></head>
<body><h1>Shop</h1>
<p>Last order: <strong id="order">{number}</strong> at <span id="at">{at}</span></p>
<p>Written by <code id="writer">{writer}</code>, shown by <code id="server">{server}</code></p>
</body></html>
"""


def is_address(name):
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True


def ask(name, resolver, timeout=2.0):
    """The first A record of a name, asked at “address:port” (RFC 1035); OSError if there is none."""
    server, _, port = resolver.partition(":")
    labels = b"".join(bytes([len(label)]) + label.encode("idna") for label in name.rstrip(".").split("."))
    number = os.urandom(2)
    question = number + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(timeout)
        link.connect((server, int(port or 53)))
        link.send(question)
        answer = link.recv(4096)
    if answer[:2] != number or answer[3] & 15:
        raise OSError(f"{resolver} does not know {name} (DNS status {answer[3] & 15})")
    position = len(question)
    for _ in range(struct.unpack(">H", answer[6:8])[0]):
        position = after_name(answer, position)
        kind, _, _, length = struct.unpack(">HHIH", answer[position : position + 10])
        position += 10
        if kind == 1:
            return socket.inet_ntoa(answer[position : position + 4])
        position += length
    raise OSError(f"{resolver} has no address for {name}")


def after_name(message, position):
    while message[position]:
        if message[position] & 0xC0:
            return position + 2
        position += message[position] + 1
    return position + 1


def last_order():
    host, resolver = os.environ.get("DATABASE_HOST", "127.0.0.1"), os.environ.get("RESOLVER", "")
    if resolver and not is_address(host):
        host = ask(host, resolver)
    connection = database.connect(
        host=host,
        port=int(os.environ.get("DATABASE_PORT", "5432")),
        dbname=os.environ.get("DATABASE_NAME", "shop"),
        user=os.environ.get("DATABASE_USER", "shop"),
        connect_timeout=3,
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT number, written_by, at FROM orders ORDER BY number DESC LIMIT 1")
            return cursor.fetchone() or (0, "nobody", "never")
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    server_version = "Shop"
    timeout = 15

    def do_GET(self):
        try:
            number, writer, at = last_order()
        except (database.Error, OSError) as error:
            self.answer(503, f"The shop is closed: {error}".strip(), "text/plain")
            return
        fields = {"number": number, "at": at, "writer": writer, "server": socket.gethostname()}
        if "HOST_NAME" in os.environ:
            fields["server"] = os.environ["HOST_NAME"]
        self.answer(200, PAGE.format(**{key: html.escape(str(value)) for key, value in fields.items()}))

    do_HEAD = do_GET

    def answer(self, status, text, kind="text/html"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main():
    address = (os.environ.get("SHOP_ADDRESS", "127.0.0.1"), int(os.environ.get("SHOP_PORT", "8080")))
    server = ThreadingHTTPServer(address, Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {address[0]}:{address[1]}", flush=True)
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
