"""Probes against real servers on loopback, a real process host and a real Debian: yes, no, and not known."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from servers.remote import probes
from servers.remote.base import Endpoint, Result, TimedOut, Unreachable
from servers.remote.probes import Probe, ProbeOutcome
from servers.remote.ssh import connect

HOST = "127.0.0.1"
HERE = Endpoint("here", HOST)


def look(
    kind: str, connection: Any = None, endpoint: Endpoint = HERE, resolver: str = "", **parameters: Any
) -> ProbeOutcome:
    probe = Probe(kind, parameters)
    outcome = probes.run(probe, endpoint=endpoint, connection=connection, resolver=resolver)
    assert (outcome.reason == "") == (outcome.passed is True)  # what is not green says why
    return outcome


class Page(http.server.BaseHTTPRequestHandler):
    """A shop with odd pages."""

    def do_GET(self) -> None:
        status, body, headers = 200, f"Shop of {self.headers['Host']}: last order 42".encode(), {}
        match self.path:
            case "/missing":
                status, body = 404, b"nothing here"
            case "/moved":
                status, headers = 302, {"Location": "/"}
            case "/away":
                status, headers = 302, {"Location": "http://elsewhere.test/"}
            case "/odd":
                status, headers = 302, {"Location": "http://[::1"}
            case "/port":
                status, headers = 302, {"Location": "http://127.0.0.1:99999999/"}
            case "/round":
                status, headers = 302, {"Location": "/round"}
            case "/latin":
                body, headers = "Käse".encode("latin-1"), {"Content-Type": "text/html; charset=latin-1"}
            case "/huge":
                body = b"x" * (2 << 20) + b"needle"
            case "/cut":
                headers, body = {"Content-Length": "1000"}, b"short"
            case "/drip":
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b".")
                        time.sleep(0.05)
                return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the probe had read enough
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        pass


def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    yield from serving(Quiet((HOST, 0), Page))


@pytest.fixture(scope="module")
def certificate() -> tuple[str, str]:
    """PEM of a self-signed certificate for web.shop.lab, and of its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.shop.lab")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("web.shop.lab")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), private


@pytest.fixture(scope="module")
def secure_web(certificate: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.touch(0o600)
    file.write_text("".join(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = Quiet((HOST, 0), Page)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    yield from serving(server)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


# -- HTTP ---------------------------------------------------------------------------------------------------


def test_http_asks_the_address_with_the_hosts_name(web: int) -> None:
    outcome = look("http", port=web, host="web.shop.lab", text="Shop of web.shop.lab")
    assert outcome.passed is True
    assert outcome.at.tzinfo is not None
    assert outcome.as_dict()["passed"] is True


@pytest.mark.parametrize(
    ("parameters", "passed", "words"),
    [
        ({"path": "/missing"}, False, "status 404, not 200"),
        ({"path": "/missing", "status": 404}, True, ""),
        ({"text": "order 43"}, False, "“order 43” is not in the page"),
        ({"path": "/moved"}, False, "status 302"),
        ({"path": "/moved", "status": 302}, True, ""),
        ({"path": "/moved", "follow": True, "text": "order 42"}, True, ""),
        ({"path": "/away", "follow": True}, False, "another host (elsewhere.test)"),
        ({"path": "/odd", "follow": True}, False, "redirects to what is no address (http://[::1)"),
        ({"path": "/port", "follow": True}, False, "redirects to what is no address (http://127.0.0.1:99999999/)"),
        ({"path": "/round", "follow": True}, False, "more than 5 times"),
        ({"path": "/latin", "text": "Käse"}, True, ""),
        ({"path": "/huge", "text": "needle"}, False, "first 1048576 characters"),
        ({"path": "/cut"}, False, "before its answer is complete"),
        ({"path": "/drip", "timeout": 0.5}, False, "no complete answer within 0.5 s"),
    ],
)
def test_http_answers(web: int, parameters: dict[str, Any], passed: bool, words: str) -> None:
    outcome = look("http", port=web, **parameters)
    assert outcome.passed is passed, outcome
    assert words in outcome.reason
    assert outcome.seconds < 3


def test_http_on_a_closed_port_is_a_no(closed_port: int) -> None:
    outcome = look("http", port=closed_port)
    assert outcome.passed is False
    assert "refuses connections" in outcome.reason


def test_http_of_a_server_that_accepts_and_says_nothing_is_a_no() -> None:
    with socket.create_server((HOST, 0)) as deaf:
        outcome = look("http", port=deaf.getsockname()[1], timeout=0.4)
    assert outcome.passed is False
    assert "no complete answer within 0.4 s" in outcome.reason


def test_https_checks_the_certificate_for_the_hosts_name(secure_web: int, certificate: tuple[str, str]) -> None:
    ca = certificate[0]
    there = {"scheme": "https", "port": secure_web}
    assert look("http", **there, host="web.shop.lab", ca=ca, text="Shop of web.shop.lab").passed is True
    unknown = look("http", **there, host="web.shop.lab")
    assert unknown.passed is False
    assert "certificate that does not hold for web.shop.lab" in unknown.reason
    assert look("http", **there, host="other.shop.lab", ca=ca).passed is False
    assert look("http", **there, host="other.shop.lab", verify=False).passed is True
    assert look("http", **there, ca="no certificate").passed is None
    assert look("http", port=secure_web).passed is False


def test_https_that_never_ends_its_handshake_is_a_no() -> None:
    with socket.create_server((HOST, 0)) as deaf:
        outcome = look("http", scheme="https", port=deaf.getsockname()[1], timeout=0.4)
    assert outcome.passed is False
    assert outcome.seconds < 2


def test_https_of_a_plain_server_is_a_no(web: int) -> None:
    outcome = look("http", scheme="https", port=web)
    assert outcome.passed is False
    assert "TLS" in outcome.reason


# -- TCP ----------------------------------------------------------------------------------------------------


def test_tcp_from_the_hub(web: int, closed_port: int) -> None:
    assert look("tcp", port=web).passed is True
    refused = look("tcp", port=closed_port)
    assert refused.passed is False
    assert "refuses connections" in refused.reason
    assert look("tcp", port=web, host="no-such-name.invalid").passed is None


def test_tcp_from_inside_needs_a_connection(web: int) -> None:
    outcome = look("tcp", port=web, **{"from": "inside"})
    assert outcome.passed is None
    assert "no SSH connection" in outcome.reason


# -- DNS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resolver() -> Iterator[str]:
    """A name server of a few fixed answers."""

    class Answers(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            query = dns.message.from_wire(data)
            answer, name = dns.message.make_response(query), query.question[0].name
            match str(name).lower():
                case "db.shop.lab.":
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", HOST))
                case "two.shop.lab.":
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", HOST, "127.0.0.2"))
                case "refused.shop.lab.":
                    answer.set_rcode(5)
                case "silent.shop.lab.":
                    return
                case _:
                    answer.set_rcode(3)
            sock.sendto(answer.to_wire(), self.client_address)

    for port in serving(socketserver.ThreadingUDPServer((HOST, 0), Answers)):
        yield f"{HOST}:{port}"


@pytest.mark.parametrize(
    ("parameters", "passed", "words"),
    [
        ({"name": "db.shop.lab", "values": ["{address}"]}, True, ""),
        ({"name": "DB.shop.lab.", "values": [HOST]}, True, ""),
        ({"name": "db.shop.lab"}, True, ""),
        ({"name": "db.shop.lab", "values": ["127.0.0.9"]}, False, "says: 127.0.0.1"),
        ({"name": "two.shop.lab", "values": [HOST]}, False, "127.0.0.1, 127.0.0.2"),
        ({"name": "gone.shop.lab", "values": [HOST]}, False, "no such name"),
        ({"name": "gone.shop.lab"}, False, "no such name"),
        ({"name": "refused.shop.lab"}, None, "REFUSED"),
        ({"name": "silent.shop.lab", "timeout": 0.4}, None, "no answer within 0.4 s"),
    ],
)
def test_dns(resolver: str, parameters: dict[str, Any], passed: bool | None, words: str) -> None:
    outcome = look("dns", resolver=resolver, **parameters)
    assert outcome.passed is passed, outcome
    assert words in outcome.reason


def test_dns_without_a_resolver_is_not_known() -> None:
    assert look("dns", name="db.shop.lab").passed is None


# -- not known is never yes ---------------------------------------------------------------------------------


class Canned:
    """A connection whose one answer, or failure, is given."""

    def __init__(self, answer: Any, endpoint: Endpoint = HERE) -> None:
        self.answer, self.endpoint = answer, endpoint

    def run(self, *_: Any, **__: Any) -> Result:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(("kind", "parameters"), [("unit", {"unit": "nginx"}), ("command", {"command": "true"})])
def test_a_broken_connection_is_not_known(kind: str, parameters: dict[str, Any]) -> None:
    broken = Canned(Unreachable("here: the connection broke.", "Look.", code="ssh.broken"))
    outcome = look(kind, broken, **parameters)
    assert outcome.passed is None
    assert "the connection broke" in outcome.reason
    assert look(kind, None, **parameters).passed is None


def test_a_command_without_an_end_is_a_no_but_a_host_without_an_answer_is_not_known() -> None:
    late = Canned(TimedOut("No result.", "Look.", code="ssh.timeout.command"))
    assert look("command", late, command="sleep 99").passed is False
    absent = Canned(TimedOut("No banner.", "Look.", code="ssh.timeout.banner"))
    assert look("command", absent, command="true").passed is None


# -- on a process host --------------------------------------------------------------------------------------


def test_units_and_commands_on_a_process_host(process_host: Callable[..., Any], web: int, tmp_path: Path) -> None:
    host = process_host("probes")
    host.write("etc/supervisor.d/nap.ini", "[program:nap]\ncommand=/bin/sleep 600\nstartsecs=0\n")
    host.write("etc/supervisor.d/dead.ini", "[program:dead]\ncommand=/bin/sleep 600\nautostart=false\n")
    host.supervisorctl("update")
    endpoint = host.endpoint
    connection = connect(endpoint)

    def here(kind: str, **parameters: Any) -> ProbeOutcome:
        return look(kind, connection, endpoint, **parameters)

    assert here("unit", unit="nap.service").passed is True
    dead = here("unit", unit="dead")
    assert (dead.passed, dead.observed) == (False, "STOPPED")
    assert here("unit", unit="nobody").passed is False
    no_supervisord = replace(endpoint, directory=str(tmp_path))
    assert (
        look(
            "unit",
            Canned(Result(2, b"", b"Error: could not find config file"), no_supervisord),
            no_supervisord,
            unit="nap",
        ).passed
        is None
    )

    assert here("command", command="pwd", output=endpoint.directory, match="equals").passed is True
    assert here("command", command="echo one; echo two", output="^two$", match="regex").passed is True
    wrong = here("command", command="echo one", output="two")
    assert wrong.passed is False
    assert "one" in wrong.reason
    failed = here("command", command="echo broken >&2; exit 3")
    assert failed.passed is False
    assert "status 3, not 0" in failed.reason
    assert "broken" in failed.reason
    assert here("command", command="exit 3", status=3).passed is True
    late = here("command", command="sleep 5", timeout=0.5)
    assert late.passed is False
    connection.close()

    connection = connect(endpoint)
    assert here("tcp", port=web, **{"from": "inside"}).passed is True
    flood = here("command", command="yes | head -c 1000000; echo end", output="end")
    assert flood.passed is False
    assert "(cut)" in flood.reason
    connection.close()


# -- on a real Debian ---------------------------------------------------------------------------------------


def test_units_and_ports_on_systemd(nspawn_host: Callable[..., Any], closed_port: int) -> None:
    host = nspawn_host("probes")
    connection = connect(host.endpoint)

    def here(kind: str, **parameters: Any) -> ProbeOutcome:
        return look(kind, connection, host.endpoint, **parameters)

    assert here("unit", unit="ssh").passed is True
    missing = here("unit", unit="no-such.service")
    assert missing.passed is False
    assert "no unit no-such.service" in missing.reason
    connection.run("systemd-run --unit=broken /bin/false; systemctl stop cron; sleep 0.3")
    broken = here("unit", unit="broken")
    assert broken.passed is False
    assert "failed" in broken.observed
    assert here("unit", unit="cron").observed == "inactive (dead)"
    assert here("tcp", port=22).passed is True
    assert here("tcp", port=22, **{"from": "inside"}).passed is True
    refused = here("tcp", port=closed_port, **{"from": "inside"})
    assert refused.passed is False
    assert "refuses connections" in refused.reason
    connection.close()
