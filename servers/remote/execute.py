"""One command on one channel: output capped, input written without dead-lock, sudo's prompt answered."""

from __future__ import annotations

import secrets
import select
import time

import paramiko

from servers.remote.base import Result

_CHUNK = 32 << 10
_SEND_POLL = 0.01  # seconds between looks at the window while input waits to be sent
_BACKGROUND_WAIT = 1.0  # seconds of silence after the exit status while something keeps the outputs open


class OutOfTime(Exception):
    """The deadline passed."""


class Broken(Exception):
    """The connection ended before the command's exit status came."""


class NotRun(Exception):
    """The log-in ended well without running the command; the message is what it printed."""


class BecomeRefused(Exception):
    """sudo refused; the message is what it said."""


class Sudo:
    """The conversation with sudo on standard error.

    sudo asks with a prompt that only this command knows; the command says that it runs with another. So the
    password is sent only when asked for, the command's input only to the command, and a refusal cannot be
    taken for the command's own exit status.
    """

    def __init__(self, password: str | None) -> None:
        mark = secrets.token_hex(8)
        self._prompt = f"[{mark} password]".encode()
        self._ready = f"[{mark} ready]".encode()
        self._password = password
        self._asked = False
        self._heard = b""
        self.ready = False
        self.arguments = ("sudo", "-S", "-p", self._prompt.decode(), "--")
        self.ready_line = f"printf %s '{self._ready.decode()}' >&2\n"

    def hear(self, data: bytes) -> tuple[bytes, bytes]:
        """What standard error brought → (bytes to send to sudo, bytes that are the command's own)."""
        self._heard += data
        start, found, rest = self._heard.partition(self._ready)
        if found:
            self.ready, self._heard = True, b""
            return b"", rest
        before, asked, after = start.partition(self._prompt)
        if not asked:
            self._heard = self._heard[-_CHUNK:]
            return b"", b""
        if self._asked:
            raise BecomeRefused("the password was refused.")
        if self._password is None:
            raise BecomeRefused("it asks for a password and none is given.")
        self._asked, self._heard = True, before + after
        return self._password.encode() + b"\n", b""

    def refusal(self, rc: int) -> BecomeRefused:
        said = " ".join(self._heard.decode("utf-8", "backslashreplace").split())
        return BecomeRefused(said[-300:] or f"it ended with status {rc}.")


class Mark:
    """Where the command's own output begins: a log-in shell may print before it (from .bashrc, say).

    Each command says a word first that it alone knows; what comes before that word is not the command's.
    """

    def __init__(self) -> None:
        self._word = f"[{secrets.token_hex(8)}]".encode()
        self._heard = b""
        self.seen = False
        self.line = f"printf %s '{self._word.decode()}'\n"

    def hear(self, data: bytes) -> bytes:
        """What standard output brought → what of it is the command's."""
        if self.seen:
            return data
        before, found, after = (self._heard + data).partition(self._word)
        self.seen = bool(found)
        self._heard = b"" if found else before[-_CHUNK:]
        return after

    @property
    def unheard(self) -> bytes:
        """What was printed by a shell that did not get as far as the command: it tells why."""
        return self._heard


class _Capped:
    """Output up to a limit; what exceeds it is read and dropped, so that the command is not held up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.truncated = False

    def add(self, data: bytes) -> None:
        room = self._limit - self._size
        if len(data) > room:
            self.truncated = True
            data = data[:room]
        if data:
            self._parts.append(data)
            self._size += len(data)

    def value(self) -> bytes:
        return b"".join(self._parts)


class Execution:
    """Runs one command line on a fresh channel until `deadline` (monotonic seconds)."""

    def __init__(
        self, channel: paramiko.Channel, stdin: bytes, limit: int, deadline: float, mark: Mark, sudo: Sudo | None
    ) -> None:
        self._channel = channel
        self._mark = mark
        self._deadline = deadline
        self._sudo = sudo
        self._out, self._err = _Capped(limit), _Capped(limit)
        self._input = memoryview(stdin)
        self._urgent = b""  # for sudo, before the input
        self._eof_sent = False
        self._quiet_since = 0.0  # monotonic seconds: no output since, with the exit status known

    def run(self, line: bytes) -> Result:
        channel = self._channel
        poll = select.poll()
        try:
            channel.exec_command(line)  # bytes: names need not be UTF-8
            poll.register(channel.fileno(), select.POLLIN)
            while not self._finished():
                if time.monotonic() > self._deadline:
                    raise OutOfTime
                sending = self._send()
                if self._receive():
                    continue
                left = max(0.0, self._deadline - time.monotonic()) + 0.01
                if channel.eof_received:  # from here on the descriptor is always readable
                    channel.status_event.wait(min(left, _SEND_POLL if sending else 0.2))
                else:
                    poll.poll(1000 * min(left, _SEND_POLL if sending else 0.5))
            return self._result()
        finally:
            channel.close()

    def _finished(self) -> bool:
        """Ended by status and by the end of both outputs: sshd may send the last output after the status.

        A child left in the background keeps the outputs open; then a status and silence end the command.
        """
        channel = self._channel
        if channel.recv_ready() or channel.recv_stderr_ready():
            return False
        if channel.closed:
            return True
        if not channel.status_event.is_set():
            return False
        now = time.monotonic()
        self._quiet_since = self._quiet_since or now
        return bool(channel.eof_received) or now - self._quiet_since > _BACKGROUND_WAIT

    def _send(self) -> bool:
        """Send what the window takes; True while input waits."""
        channel = self._channel
        while self._urgent and channel.send_ready():
            self._urgent = b"" if channel.closed else self._urgent[channel.send(self._urgent) :]
        if self._urgent:
            return True
        if self._sudo is not None and not self._sudo.ready:
            return False
        while self._input and channel.send_ready() and not channel.closed:
            try:
                sent = channel.send(bytes(self._input[:_CHUNK]))
            except OSError:  # the command closed its input: it needs no more
                sent = 0
            self._input = self._input[sent:] if sent else self._input[:0]
            if channel.recv_ready() or channel.recv_stderr_ready():
                break  # read in between: the command may wait for us to take its output
        if not self._input and not self._eof_sent:
            self._eof_sent = True
            channel.shutdown_write()
        return bool(self._input)

    def _receive(self) -> bool:
        channel, got = self._channel, False
        if channel.recv_ready():
            self._out.add(self._mark.hear(channel.recv(_CHUNK)))
            got = True
        if channel.recv_stderr_ready():
            data = channel.recv_stderr(_CHUNK)
            if self._sudo is not None and not self._sudo.ready:
                self._urgent, data = self._sudo.hear(data)
            self._err.add(data)
            got = True
        if got:
            self._quiet_since = 0.0
        return got

    def _result(self) -> Result:
        channel = self._channel
        rc = channel.exit_status
        if rc == -1:
            # Without a status: a signal killed the command, or the connection is gone.
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                if not channel.get_transport().is_active():
                    raise Broken("it ended without an exit status")
                time.sleep(0.02)
        if self._sudo is not None and not self._sudo.ready:
            raise self._sudo.refusal(rc)
        if not self._mark.seen:
            self._out.add(self._mark.unheard)
            if rc == 0:
                raise NotRun(" ".join(self._out.value().decode("utf-8", "backslashreplace").split())[-300:])
        return Result(rc, self._out.value(), self._err.value(), self._out.truncated or self._err.truncated)
