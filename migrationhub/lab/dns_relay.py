"""Puts the name server of process hosts on the lab's loopback addresses.

BIND listens only on addresses that an interface has, and of 127.0.0.0/8 that is 127.0.0.1. A relay may bind every
other one without root. It asks from the address it was asked at, by which BIND tells the two views apart.

Run as a file: `python dns_relay.py 127.0.0.1:PORT ADDRESS:PORT …`.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

Place = tuple[str, int]
TIMEOUT = 10.0  # seconds


def answer_datagram(link: socket.socket, question: bytes, client: Place, here: str, server: Place) -> None:
    """Ask for one client; no answer is no answer, as it is with a name server that is down."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.bind((here, 0))
        asked.connect(server)
        asked.settimeout(TIMEOUT)
        asked.send(question)
        link.sendto(asked.recv(65535), client)


def serve_datagrams(place: Place, server: Place) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind(place)
        while True:
            question, client = link.recvfrom(65535)
            argv = (link, question, client, place[0], server)
            threading.Thread(target=answer_datagram, args=argv, daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65535):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def answer_stream(client: socket.socket, here: str, server: Place) -> None:
    with contextlib.suppress(OSError), client, socket.socket() as asked:
        asked.bind((here, 0))
        asked.settimeout(TIMEOUT)
        client.settimeout(TIMEOUT)
        asked.connect(server)
        back = threading.Thread(target=pump, args=(asked, client), daemon=True)
        back.start()
        pump(client, asked)
        back.join(TIMEOUT)


def serve_streams(place: Place, server: Place) -> None:
    with socket.create_server(place) as link:
        while True:
            client, _ = link.accept()
            threading.Thread(target=answer_stream, args=(client, place[0], server), daemon=True).start()


def place_of(text: str) -> Place:
    address, _, port = text.partition(":")
    return address, int(port)


def main(server: str, *places: str) -> None:
    threads = [
        threading.Thread(target=serve, args=(place_of(place), place_of(server)))
        for place in places
        for serve in (serve_datagrams, serve_streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
