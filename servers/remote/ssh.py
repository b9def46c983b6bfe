"""SSH over paramiko: `connect` opens one connection, `Pool` keeps them."""

from __future__ import annotations

import os
import posixpath
import shlex
import threading
import time
from collections.abc import Sequence

import paramiko

from servers.remote.base import (
    BecomeFailed,
    CommandFailed,
    Connect,
    Connection,
    Endpoint,
    RemoteProblem,
    Result,
    TimedOut,
    Unreachable,
)
from servers.remote.causes import cause_of
from servers.remote.execute import BecomeRefused, Broken, Execution, Mark, NotRun, OutOfTime, Sudo
from servers.remote.login import open_transport, where

_CHANNEL_TIMEOUT = 15.0  # seconds for sshd to open a session on a standing connection
_SESSIONS = 8  # at once on one connection: sshd's MaxSessions is 10 by default
# A log-in without root's PATH finds no sbin; parsing needs one language.
_PROLOGUE = 'PATH="${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin"; export PATH\n'


def _short(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= 120 else line[:117] + "…"


class SSHConnection:
    """One authenticated connection; `run` may be called from several threads, each on its own channel."""

    def __init__(self, endpoint: Endpoint, transport: paramiko.Transport) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._sessions = threading.BoundedSemaphore(_SESSIONS)
        self._suspect = False  # a command had no answer in time: the next one gets a new connection
        self.last_used = time.monotonic()
        self.busy = 0  # commands that run now; written under the lock
        self._lock = threading.Lock()

    @property
    def usable(self) -> bool:
        return self._transport.is_active() and self._transport.is_authenticated() and not self._suspect

    def run(
        self,
        command: str | Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 60.0,
        limit: int = 4 << 20,
        check: bool = False,
        root: bool = True,
    ) -> Result:
        """Run a command and wait for its end.

        Raises `TimedOut` after `timeout` seconds (the command may still run there), `Unreachable` where the
        connection broke before an exit status came, `BecomeFailed` where sudo refuses, and with `check`
        `CommandFailed` on another status than 0. A command killed by a signal has rc -1.
        """
        text = command if isinstance(command, str) else shlex.join(command)
        with self._lock:
            self.busy += 1
            self.last_used = time.monotonic()
        try:
            result = self._execute(text, stdin, timeout, limit, root)
        finally:
            with self._lock:
                self.busy -= 1
                self.last_used = time.monotonic()
        if check and result.rc != 0:
            lines = (result.error_text.strip() or result.text.strip()).splitlines()
            said = f" It said: “{lines[-1][:300].strip()}”." if lines else ""
            cause, act = cause_of(result.error_text, result.rc)
            raise CommandFailed(
                f"{self.endpoint.name}: {cause and cause + ': '}“{_short(text)}” ended with status {result.rc}.{said}",
                act,
                result=result,
            )
        return result

    def _execute(self, text: str, stdin: bytes, timeout: float, limit: int, root: bool) -> Result:
        place, deadline = where(self.endpoint), time.monotonic() + timeout
        become = root and self.endpoint.become == "sudo" and self.endpoint.username != "root"
        sudo = Sudo(self.endpoint.become_password) if become else None
        mark = Mark()
        script = ["env", "LC_ALL=C", "sh", "-c", (sudo.ready_line if sudo else "") + mark.line + _PROLOGUE + text]
        line = shlex.join([*(sudo.arguments if sudo else ()), *script])
        # paramiko waits without end for some answers: closing the connection frees whoever waits.
        watchdog = threading.Timer(timeout + 2, self._transport.close)
        watchdog.daemon = True
        watchdog.start()
        held = self._sessions.acquire(timeout=timeout)
        try:
            if not held:
                raise OutOfTime
            channel = self._open(min(_CHANNEL_TIMEOUT, timeout))
            execution = Execution(channel, stdin, limit, deadline, mark, sudo)
            return execution.run(line.encode("utf-8", "surrogateescape"))
        except OutOfTime:
            self._suspect = True
            raise TimedOut(
                f"{place}: “{_short(text)}” gave no result within {timeout:g} s.",
                "Check whether the machine hangs; the command may still run there.",
                code="ssh.timeout.command",
                lasting=False,
            ) from None
        except BecomeRefused as refused:
            raise BecomeFailed(
                f"{place}: sudo does not make {self.endpoint.username} root: {refused}",
                "Correct the sudo password of the credential, or the user's rights in sudoers.",
                code="ssh.sudo",
            ) from None
        except NotRun as shell:
            raise RemoteProblem(
                f"{place}: the log-in of {self.endpoint.username} runs no commands. It said: “{shell}”.",
                "Give the account a shell (usermod -s /bin/sh), or use another account.",
                code="ssh.shell",
            ) from None
        except (Broken, paramiko.SSHException, EOFError, OSError) as error:
            self._suspect = True
            late = time.monotonic() >= deadline
            kind = TimedOut if late else Unreachable
            raise kind(
                f"{place}: the connection broke while “{_short(text)}” ran: {error or 'it was closed'}.",
                "Whether the command ended is not known: look at the machine before it is run again.",
                code="ssh.timeout.command" if late else "ssh.broken",
                lasting=False,
            ) from error
        finally:
            watchdog.cancel()
            if held:
                self._sessions.release()

    def _open(self, timeout: float) -> paramiko.Channel:
        try:
            return self._transport.open_session(timeout=timeout)
        except paramiko.ChannelException as error:
            raise Broken(f"sshd refuses another session ({error.text}; see MaxSessions)") from error
        except paramiko.SSHException as error:
            if "Timeout" in str(error):
                raise OutOfTime from error
            raise

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        """Write atomically: into a temporary file beside it, complete, then renamed."""
        directory, name = posixpath.split(path)
        # A broken connection looks like the end of the data: the length is compared before the rename.
        script = (
            f"umask 077; t=$(mktemp {shlex.quote(directory or '.')}/.{shlex.quote(name)}.XXXXXX) || exit 1\n"
            f'cat > "$t" && [ "$(wc -c < "$t")" -eq {len(data)} ] && chmod {mode:o} "$t" && '
            f'mv -fT -- "$t" {shlex.quote(path)} || {{ rm -f -- "$t"; exit 1; }}'
        )
        self.run(script, stdin=data, timeout=60 + len(data) / (256 << 10), check=True)

    def get(self, path: str, *, limit: int = 16 << 20) -> bytes:
        """The content of a file; `RemoteProblem` where it is larger than `limit` bytes."""
        result = self.run(["cat", "--", path], limit=limit, timeout=60 + limit / (256 << 10), check=True)
        if result.truncated:
            raise RemoteProblem(
                f"{self.endpoint.name}: {path} is larger than the {limit} bytes that are read of it.",
                "Look at the file on the machine itself.",
                code="file.too_large",
            )
        return result.out

    def close(self) -> None:
        self._transport.close()


def connect(
    endpoint: Endpoint, *, connect_timeout: float = 10, banner_timeout: float = 15, auth_timeout: float = 15
) -> Connection:
    """A new connection. No agent, no files of the hub's own user: only what the endpoint holds.

    Time-outs in seconds. Raises `Unreachable`, `TimedOut`, `HostKeyUnknown`, `HostKeyChanged`,
    `AuthenticationFailed`.
    """
    transport = open_transport(
        endpoint, connect_timeout=connect_timeout, banner_timeout=banner_timeout, auth_timeout=auth_timeout
    )
    return SSHConnection(endpoint, transport)


class Pool:
    """Connections that are kept, one per endpoint; `pool.connect` has the shape of `connect`.

    Whoever uses a connection leaves it open; a broken one is replaced at the next `connect`, one that nobody
    used for `idle` seconds is closed. Safe for threads; a forked child starts empty.
    """

    def __init__(self, make: Connect = connect, *, idle: float = 300.0) -> None:
        self._make = make
        self._idle = idle
        self._lock = threading.Lock()
        self._kept: dict[Endpoint, Connection] = {}
        self._making: dict[Endpoint, threading.Lock] = {}
        self._retired: list[Connection] = []  # replaced while others still used them
        self._pid = os.getpid()

    def connect(self, endpoint: Endpoint) -> Connection:
        """The endpoint's connection, made where none is usable. A slow host holds up only its own callers."""
        self._close_idle()
        with self._lock:
            making = self._making.setdefault(endpoint, threading.Lock())
        with making:
            with self._lock:
                kept = self._kept.get(endpoint)
                if kept is not None and _usable(kept):
                    return kept
                if kept is not None:
                    del self._kept[endpoint]
                    self._retired.append(kept)
            fresh = self._make(endpoint)
            with self._lock:
                self._kept[endpoint] = fresh
            return fresh

    def forget(self, endpoint: Endpoint) -> None:
        """Close what is kept for an endpoint (its machine was restarted, its credential changed)."""
        with self._lock:
            kept = self._kept.pop(endpoint, None)
        if kept is not None:
            kept.close()

    def close(self) -> None:
        with self._lock:
            all_of_them = [*self._kept.values(), *self._retired]
            self._kept.clear()
            self._retired.clear()
        for connection in all_of_them:
            connection.close()

    def _close_idle(self) -> None:
        now = time.monotonic()
        with self._lock:
            if self._pid != os.getpid():  # paramiko's threads are the parent's: so are the sockets
                self._kept, self._making, self._retired, self._pid = {}, {}, [], os.getpid()
            old = [
                endpoint
                for endpoint, kept in self._kept.items()
                if isinstance(kept, SSHConnection) and not kept.busy and now - kept.last_used > self._idle
            ]
            done = [kept for kept in self._retired if not isinstance(kept, SSHConnection) or not kept.busy]
            self._retired = [kept for kept in self._retired if kept not in done]
            done += [self._kept.pop(endpoint) for endpoint in old]
        for connection in done:
            connection.close()


def _usable(connection: Connection) -> bool:
    return connection.usable if isinstance(connection, SSHConnection) else True
