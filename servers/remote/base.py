"""What a machine is to us, and the one way to talk to it.

Everything in `servers.remote` works on an `Endpoint` and a `Connection`; it knows no model and no task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from migrationhub.lib.findings import Problem


@dataclass(frozen=True)
class Endpoint:
    """Where a machine is reached and what was declared about it when it was entered.

    `manager` is declared, never detected: on a `supervisord` host the login sees the real machine, so nothing
    there may call systemctl, shutdown, ip, apt or sudo or write outside `directory`.
    """

    name: str
    address: str
    port: int = 22
    username: str = "root"
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)  # PEM / OpenSSH text
    passphrase: str | None = field(default=None, repr=False)
    become: str = "none"  # none | sudo
    become_password: str | None = field(default=None, repr=False)
    host_keys: tuple[str, ...] = ()  # accepted keys as "type base64"; empty: nothing is accepted
    manager: str = "systemd"  # systemd | supervisord
    directory: str = "/"  # supervisord: everything of this host lives below it


@dataclass(frozen=True)
class Result:
    """What a command left: exit status and output, cut at the cap (`truncated`)."""

    rc: int
    out: bytes
    err: bytes
    truncated: bool = False

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "backslashreplace")

    @property
    def error_text(self) -> str:
        return self.err.decode("utf-8", "backslashreplace")


class Connection(Protocol):
    """One SSH connection. Commands run as root (through sudo where the endpoint says so) unless `root=False`.

    A sequence of arguments is quoted for the remote shell; a string is given to `sh` as it is.
    Secrets go in by `stdin`, never by argv.
    """

    endpoint: Endpoint

    def run(
        self,
        command: str | Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 60.0,  # seconds for the whole command; then `TimedOut`
        limit: int = 4 << 20,  # bytes kept of each of stdout and stderr
        check: bool = False,  # raise `CommandFailed` on rc != 0
        root: bool = True,
    ) -> Result: ...

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        """Write atomically (temporary file beside it, then rename)."""

    def get(self, path: str, *, limit: int = 16 << 20) -> bytes: ...

    def close(self) -> None: ...


Connect = Callable[[Endpoint], Connection]


class RemoteProblem(Problem):
    """A machine could not be reached or did not do what was asked."""


class Unreachable(RemoteProblem):
    """No TCP connection, no banner, or the connection broke. May pass by itself."""


class TimedOut(Unreachable):
    """Connected, but no answer within the time-out of connect, banner, auth or command."""


class HostKeyUnknown(RemoteProblem):
    """No key is accepted for this machine yet: a person must accept one."""


class HostKeyChanged(RemoteProblem):
    """The machine shows another key than the accepted one: refused, as a finding."""


class AuthenticationFailed(RemoteProblem):
    """Wrong user, password or key."""


class BecomeFailed(RemoteProblem):
    """sudo refused or asked for a password that was not given."""


class CommandFailed(RemoteProblem):
    """`check=True` and the command left a status other than 0; `result` has its output."""

    def __init__(self, text: str, act: str = "", *, result: Result, code: str = "command.failed") -> None:
        super().__init__(text, act, code=code)
        self.result = result
