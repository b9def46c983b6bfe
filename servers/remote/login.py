"""From an endpoint to an authenticated SSH transport: TCP, banner, host key, user. Each refusal in words."""

from __future__ import annotations

import io
import logging
import socket
import time

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from servers.remote.base import (
    AuthenticationFailed,
    Endpoint,
    HostKeyChanged,
    HostKeyUnknown,
    TimedOut,
    Unreachable,
)
from servers.remote.hostkeys import FoundKey, found_key

# paramiko logs what it raises, with traces; what it raises is told here in words.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

KEEPALIVE = 15  # seconds
_DEAD_AFTER = 45  # seconds without an acknowledgement from the other side's kernel: the connection is gone
_KEY_CLASSES: tuple[tuple[type, type[paramiko.PKey]], ...] = (
    (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
    (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (rsa.RSAPrivateKey, paramiko.RSAKey),
)


def where(endpoint: Endpoint) -> str:
    return f"{endpoint.name} ({endpoint.address} port {endpoint.port})"


def private_key(endpoint: Endpoint) -> paramiko.PKey:
    """The endpoint's private key (OpenSSH or PEM; ed25519, ecdsa, rsa), opened with its passphrase."""
    text = (endpoint.private_key or "").strip() + "\n"
    passphrase = endpoint.passphrase.encode() if endpoint.passphrase else None
    load = load_ssh_private_key if "OPENSSH PRIVATE KEY" in text else load_pem_private_key
    problem, act = "", "Give the private key itself (it begins with -----BEGIN …), ed25519, ecdsa or rsa."
    try:
        key = load(text.encode(), passphrase)
    except TypeError:
        problem = "needs no passphrase" if passphrase else "is protected by a passphrase and none was given"
        act = "Correct the passphrase in the credential."
    except (ValueError, UnsupportedAlgorithm):
        # The parser's own words may quote the key: they are not passed on.
        problem = "cannot be read: it is not a private key, or the passphrase is wrong"
    if problem == "needs no passphrase":
        key, passphrase, problem = load(text.encode(), None), None, ""
    if not problem:
        for raw_class, key_class in _KEY_CLASSES:
            if isinstance(key, raw_class):
                return key_class.from_private_key(io.StringIO(text), passphrase.decode() if passphrase else None)
        problem = "is of a kind that is not supported"
    raise AuthenticationFailed(
        f"{where(endpoint)}: the private key of {endpoint.username} {problem}.", act, code="ssh.private_key"
    )


def _tcp(endpoint: Endpoint, timeout: float) -> socket.socket:
    place = where(endpoint)
    try:
        sock = socket.create_connection((endpoint.address, endpoint.port), timeout=timeout)
    except TimeoutError:
        raise TimedOut(
            f"{place}: no answer to a TCP connection within {timeout:g} s.",
            "Check that the machine is on and that no firewall drops the connection, then retry.",
            code="ssh.timeout.connect",
            lasting=False,
        ) from None
    except socket.gaierror as error:
        raise Unreachable(
            f"{place}: the name {endpoint.address} does not resolve: {error.strerror}.",
            "Correct the address, or give an IP address.",
            code="ssh.unreachable",
            lasting=False,
        ) from error
    except OSError as error:
        raise Unreachable(
            f"{place}: no TCP connection: {error.strerror or error}.",
            "Check address and port, and that the machine is on and sshd runs there, then retry.",
            code="ssh.unreachable",
            lasting=False,
        ) from error
    # A peer that vanished without a word: the kernel notices, and paramiko's threads end with the socket.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER * 1000)
    return sock


def _accepted(endpoint: Endpoint) -> tuple[FoundKey, ...]:
    return tuple(found_key(*line.split()[:2]) for line in endpoint.host_keys if len(line.split()) >= 2)


def _prefer(transport: paramiko.Transport, accepted: tuple[FoundKey, ...]) -> None:
    """Ask first for the kinds of key that are accepted, or a host with several would show another one."""
    options = transport.get_security_options()
    known = {key.type for key in accepted}

    def is_accepted(algorithm: str) -> bool:
        return ("ssh-rsa" if algorithm.startswith("rsa-") else algorithm) in known

    options.key_types = sorted(options.key_types, key=lambda algorithm: not is_accepted(algorithm))


def _check_host_key(endpoint: Endpoint, transport: paramiko.Transport, accepted: tuple[FoundKey, ...]) -> None:
    shown = transport.get_remote_server_key()
    found = found_key(shown.get_name(), shown.get_base64())
    if any(found.type == key.type and found.base64 == key.base64 for key in accepted):
        return
    if not accepted:
        raise HostKeyUnknown(
            f"{where(endpoint)}: no host key is accepted yet; the machine shows {found.type} {found.fingerprint}.",
            "Compare the fingerprint with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub) "
            "and accept the key.",
            code="ssh.host_key_unknown",
        )
    expected = ", ".join(f"{key.type} {key.fingerprint}" for key in accepted)
    raise HostKeyChanged(
        f"{where(endpoint)}: the machine shows the host key {found.type} {found.fingerprint}, "
        f"but accepted is {expected}. Nothing was sent to it.",
        "Find out why the key differs (another machine at this address, or reinstalled); check the server again and "
        "accept the new key only if that is explained, then retry.",
        code="ssh.host_key_changed",
    )


def _handshake(endpoint: Endpoint, transport: paramiko.Transport, timeout: float) -> None:
    transport.banner_timeout = timeout
    transport.handshake_timeout = timeout
    detail = ""
    began = time.monotonic()
    try:
        transport.start_client(timeout=timeout)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise Unreachable(
            f"{where(endpoint)}: no common SSH algorithm: {error}.",
            "Enable current algorithms in the machine's sshd_config.",
            code="ssh.incompatible",
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        detail = str(error) or "the connection was closed"
        # paramiko's own time limit of the handshake ends as EOFError too.
        late = isinstance(error, EOFError) and time.monotonic() - began >= timeout * 0.9
        # paramiko wraps what it met while it read the banner and drops its kind.
        if not late and not isinstance(error, TimeoutError) and not isinstance(error.__context__, TimeoutError):
            raise Unreachable(
                f"{where(endpoint)}: accepts connections, but not as an SSH server: {detail}.",
                "Check that the port is sshd's, and its log and limits (MaxStartups).",
                code="ssh.no_banner",
                lasting=False,
            ) from error
    if detail or not transport.is_active() or not transport.initial_kex_done:
        raise TimedOut(
            f"{where(endpoint)}: accepts connections, but no SSH server answered within {timeout:g} s.",
            "Check on the machine's console whether it hangs, and that the port is sshd's; then retry.",
            code="ssh.timeout.banner",
            lasting=False,
        )


def _authenticate(endpoint: Endpoint, transport: paramiko.Transport, timeout: float) -> None:
    if not endpoint.private_key and endpoint.password is None:
        raise AuthenticationFailed(
            f"{where(endpoint)}: neither key nor password is given for {endpoint.username}.",
            "Choose a credential with a private key or a password.",
            code="ssh.authentication",
        )
    key = private_key(endpoint) if endpoint.private_key else None
    transport.auth_timeout = timeout
    tried, missing = [], []
    try:
        if key is not None:
            tried.append("the private key")
            try:
                missing = transport.auth_publickey(endpoint.username, key)
            except paramiko.AuthenticationException:
                if endpoint.password is None or not transport.is_active():
                    raise
        if not transport.is_authenticated() and endpoint.password is not None:
            tried.append("the password")
            missing = transport.auth_password(endpoint.username, endpoint.password)
    except paramiko.BadAuthenticationType as error:
        raise AuthenticationFailed(
            f"{where(endpoint)}: sshd does not take {' or '.join(tried)} from {endpoint.username}; "
            f"it offers {', '.join(error.allowed_types) or 'nothing'}.",
            "Choose a credential of a kind that sshd offers, or change its sshd_config, then retry.",
            code="ssh.authentication",
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        _raise_refused(endpoint, error, tried, timeout)
    if not transport.is_authenticated():
        raise AuthenticationFailed(
            f"{where(endpoint)}: {' and '.join(tried)} of {endpoint.username} is not enough; "
            f"sshd also wants {', '.join(missing) or 'more'}.",
            "Give the credential both a key and a password, or let sshd take one of them.",
            code="ssh.authentication",
        )


def _act_after(tried: list[str]) -> str:
    places = {"the private key": "~/.ssh/authorized_keys", "the password": "PermitRootLogin and a locked account"}
    there = ", ".join(places[one] for one in tried)
    return f"Correct user name or credential; on the machine look at {there} and sshd's log. Then retry."


def _raise_refused(endpoint: Endpoint, error: Exception, tried: list[str], timeout: float) -> None:
    if "timeout" in str(error).lower() or isinstance(error, TimeoutError):
        raise TimedOut(
            f"{where(endpoint)}: no answer to the log-in of {endpoint.username} within {timeout:g} s.",
            "Check whether the machine hangs or its log-in waits for something (DNS, LDAP).",
            code="ssh.timeout.auth",
            lasting=False,
        ) from error
    if isinstance(error, paramiko.AuthenticationException) and "EOF" not in str(error):
        raise AuthenticationFailed(
            f"{where(endpoint)}: {' and '.join(tried)} of {endpoint.username} "
            f"{'were' if len(tried) > 1 else 'was'} refused.",
            _act_after(tried),
            code="ssh.authentication",
        ) from error
    raise Unreachable(
        f"{where(endpoint)}: the connection broke during the log-in of {endpoint.username}: {error}.",
        "Try again; if it stays, look into sshd's log on the machine.",
        code="ssh.broken",
        lasting=False,
    ) from error


def open_transport(
    endpoint: Endpoint, *, connect_timeout: float, banner_timeout: float, auth_timeout: float
) -> paramiko.Transport:
    """An authenticated transport whose host key is one of the endpoint's; nothing is sent before that."""
    accepted = _accepted(endpoint)
    sock = _tcp(endpoint, connect_timeout)
    transport = paramiko.Transport(sock)
    try:
        _prefer(transport, accepted)
        _handshake(endpoint, transport, banner_timeout)
        _check_host_key(endpoint, transport, accepted)
        _authenticate(endpoint, transport, auth_timeout)
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(KEEPALIVE)
    return transport
