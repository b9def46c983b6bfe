"""One DNS question or update and its answer over the wire, and each way it can fail as a sentence."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import socket
import time
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

from migrationhub.lib.findings import Problem

TIMEOUT = 5.0  # seconds for one exchange
_ALGORITHMS = ("hmac-sha256", "hmac-sha512", "hmac-sha384", "hmac-sha224", "hmac-sha1", "hmac-md5")


class DnsProblem(Problem):
    """A name server did not answer, or not as was needed."""


@dataclass(frozen=True)
class TsigKey:
    """The key that signs updates. `secret` is base64, as in a BIND key file; it never gets into a message."""

    name: str
    secret: str = field(repr=False)
    algorithm: str = "hmac-sha256"

    def checked(self) -> dns.tsig.Key:
        """The key in dnspython's form. Raises `DnsProblem` naming the field that is wrong, never its value."""
        if self.algorithm.lower().rstrip(".") not in _ALGORITHMS:
            raise DnsProblem(
                f"The TSIG algorithm {self.algorithm!r} is not known.",
                f"Choose one of: {', '.join(_ALGORITHMS)}.",
                code="dns.key",
            )
        try:
            secret = base64.b64decode(self.secret.strip(), validate=True)
            if not secret:
                raise ValueError
            algorithm = self.algorithm.lower().rstrip(".")
            if algorithm == "hmac-md5":
                algorithm = "hmac-md5.sig-alg.reg.int"
            return dns.tsig.Key(self.name, secret, algorithm)
        except (binascii.Error, ValueError, dns.exception.DNSException):
            raise DnsProblem(
                f"The name or the secret of the TSIG key {self.name!r} cannot be used: a name such as "
                "“migrationhub.” and a secret in base64 were expected.",
                "Copy both from the key file of the name server again.",
                code="dns.key",
            ) from None


def server_address(server: str) -> str:
    """The address of a name server given by address or by name. Raises `DnsProblem`."""
    try:
        return str(ipaddress.ip_address(server))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(server, 53, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise DnsProblem(
            f"The name server {server!r} has no address: {error.strerror or error}.",
            "Enter its IP address.",
            code="dns.server",
            lasting=False,
        ) from None


def ask(
    server: str, port: int, name: dns.name.Name, rtype: str, timeout: float = TIMEOUT, *, recurse: bool = False
) -> dns.message.Message:
    """The answer to one question, by UDP and, if it was cut, by TCP. Raises `DnsProblem` where there is none."""
    query = dns.message.make_query(name, rtype)
    if not recurse:
        query.flags &= ~dns.flags.RD
    address, where = server_address(server), f"{server} port {port}"
    try:
        answer, _ = dns.query.udp_with_fallback(query, address, timeout=timeout, port=port)
    except (dns.exception.Timeout, TimeoutError):
        raise silent(where, timeout) from None
    except (OSError, EOFError) as error:
        raise unreachable(where, error) from None
    except dns.exception.DNSException as error:
        raise garbled(where, error) from None
    return answer


def send_update(
    server: str, port: int, update: dns.update.UpdateMessage, key: TsigKey | None, timeout: float = TIMEOUT
) -> dns.rcode.Rcode:
    """Send one update by TCP and return the server's verdict, its signature checked.

    Raises `DnsProblem` where the server refuses the key, its time or the zone, or where nothing came back: then
    it is not known whether the change was made, and asking again tells.
    """
    address, where = server_address(server), f"{server} port {port}"
    signing = key.checked() if key else None
    if signing:
        update.use_tsig(signing)
    wire = _exchange(address, port, update, where, timeout)
    try:
        raw = dns.message.from_wire(wire, keyring=False)
        if key and signing and raw.had_tsig and raw.tsig is not None and raw.tsig[0].error != 0:
            raise tsig_refused(where, key, raw.tsig[0])
        if signing and not raw.had_tsig:
            if raw.rcode() == dns.rcode.NOERROR:
                raise DnsProblem(
                    f"{where} answered the signed update without a signature, which proves nothing.",
                    "Check that nothing between the hub and the name server answers in its place.",
                    code="dns.unsigned",
                )
            return raw.rcode()
        return dns.message.from_wire(wire, keyring=signing or False, request_mac=update.mac).rcode()
    except dns.tsig.BadTime:
        raise clock_differs(where, None) from None
    except dns.exception.DNSException as error:
        raise garbled(where, error) from None


def _exchange(address: str, port: int, update: dns.update.UpdateMessage, where: str, timeout: float) -> bytes:
    """Bytes of the answer: dnspython would raise on a refused signature before the server's clock can be read."""
    expiration = time.time() + timeout
    try:
        with socket.create_connection((address, port), timeout=timeout) as connection:
            connection.setblocking(False)
            dns.query.send_tcp(connection, update, expiration)
            length = int.from_bytes(_read(connection, 2, expiration), "big")
            return _read(connection, length, expiration)
    except (dns.exception.Timeout, TimeoutError):
        raise silent(where, timeout) from None
    except (OSError, EOFError) as error:
        raise unreachable(where, error) from None


def _read(connection: socket.socket, count: int, expiration: float) -> bytes:
    data = b""
    while len(data) < count:
        left = expiration - time.time()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise EOFError("it closed the connection")
        data += chunk
    return data


def silent(where: str, timeout: float) -> DnsProblem:
    return DnsProblem(
        f"The name server {where} gave no answer within {timeout:g} s.",
        "Check the address, and that the hub may reach it by UDP and TCP.",
        code="dns.timeout",
        lasting=False,
    )


def unreachable(where: str, error: BaseException) -> DnsProblem:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return DnsProblem(
        f"The name server {where} cannot be reached: {said}.",
        "Check its address and port, and that it runs.",
        code="dns.unreachable",
        lasting=False,
    )


def garbled(where: str, error: BaseException) -> DnsProblem:
    return DnsProblem(
        f"The answer of {where} is not a DNS answer to what was asked ({type(error).__name__}).",
        "Check that this address and port belong to a name server, and the secret of the TSIG key.",
        code="dns.garbled",
    )


def clock_differs(where: str, seconds: float | None) -> DnsProblem:
    by = f" by {abs(seconds):.0f} s" if seconds is not None else ""
    return DnsProblem(
        f"The clocks of the hub and of {where} differ{by}; a signed update allows 300 s.",
        "Set both clocks right (NTP), then try again.",
        code="dns.clock",
    )


def tsig_refused(where: str, key: TsigKey, rdata: object) -> DnsProblem:
    """What the server said against the signature: key unknown, signature wrong, time too far off."""
    error = int(getattr(rdata, "error", 0))
    if error == dns.rcode.BADTIME:
        other = bytes(getattr(rdata, "other", b""))
        signed = int(getattr(rdata, "time_signed", 0))  # by the hub; `other` is the server's time
        skew = int.from_bytes(other, "big") - signed if len(other) == 6 and signed else None
        return clock_differs(where, skew)
    if error == dns.rcode.BADKEY:
        return DnsProblem(
            f"{where} does not know a TSIG key “{key.name}” with {key.algorithm} (BADKEY).",
            "Compare the name and the algorithm with the name server's configuration.",
            code="dns.badkey",
        )
    return DnsProblem(
        f"{where} refuses the signature made with the TSIG key “{key.name}” "
        f"({dns.rcode.to_text(dns.rcode.Rcode.make(error), True)}).",
        "The secret or the algorithm differs from the name server's: enter the key again.",
        code="dns.badsig",
    )
