"""The detached job on the two hosts: its directory is made, looked at, started, ended and taken away."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass

from servers.movers.rsync.layout import Layout, program
from servers.movers.rsync.state import Look, parse_look
from servers.movers.rsync.walk import Mount, parse_mountinfo
from servers.remote.base import Connection, RemoteProblem

_UNPACK = (
    'umask 077; mkdir -p "$1" && mkdir "$1.new" && cd "$1.new" || exit 1\n'
    'while read -r name data; do printf %s "$data" | base64 -d >"$name" || exit 1; done\n'
    'rmdir "$1" && mv -T "$1.new" "$1"\n'
)


# Before the end: a start that comes late finds its place taken and does nothing; one that is just beginning is
# waited for, so that there is something to end.
_NO_START = """
if [ -d "$1" ]; then
  if mkdir "$1/running" 2>/dev/null; then
    echo 143 >"$1/rc.new" && mv "$1/rc.new" "$1/rc"
  else
    n=0
    until [ -e "$1/pid" ] || [ -e "$1/rc" ] || [ $n -ge 50 ]; do sleep 0.1; n=$((n + 1)); done
  fi
fi
"""


@dataclass(frozen=True)
class RemoteJob:
    """One side of a sync."""

    connection: Connection
    layout: Layout

    @property
    def _name(self) -> str:
        return self.connection.endpoint.name

    def mounts(self) -> list[Mount]:
        """The mounts of the host; [] where the host is a directory of another machine."""
        if self.connection.endpoint.manager == "supervisord":
            return []
        return parse_mountinfo(self.connection.get("/proc/self/mountinfo"))

    def look(self) -> Look:
        """What the directory tells. Raises `RemoteProblem` where the host answers something else."""
        result = self.connection.run(
            f"sh -s {shlex.quote(self.layout.job)}", stdin=program("state.sh").encode(), timeout=30, check=True
        )
        try:
            return parse_look(result.out)
        except ValueError as error:
            raise RemoteProblem(
                f"{self._name}: the state of the sync cannot be read ({error}).",
                "Check that a login there prints nothing of its own.",
                code="rsync.state",
                lasting=False,
            ) from error

    def unpack(self, files: dict[str, bytes]) -> None:
        """Make the directory with its files, all or nothing. It must not be there."""
        packed = b"".join(name.encode() + b" " + base64.b64encode(data) + b"\n" for name, data in files.items())
        parents = f"umask 077; mkdir -p {shlex.quote(self.layout.job.rpartition('/')[0])} "
        parents += f"{shlex.quote(self.layout.state)} && rm -rf {shlex.quote(self.layout.job + '.new')} && "
        self.connection.run(
            f"{parents} sh -c {shlex.quote(_UNPACK)} sh {shlex.quote(self.layout.job)}", stdin=packed, check=True
        )

    def make_key(self) -> str:
        """A new key pair in the directory; the private half never leaves the host. Returns the public line."""
        key = shlex.quote(f"{self.layout.job}/key")
        result = self.connection.run(
            f"umask 077; [ -s {key} ] || ssh-keygen -q -t ed25519 -N '' -C migrationhub -f {key}; cat {key}.pub",
            check=True,
        )
        return result.text.strip()

    def public_key(self) -> str:
        result = self.connection.run(["cat", f"{self.layout.job}/key.pub"])
        return result.text.strip() if result.rc == 0 else ""

    def write(self, name: str, data: bytes) -> None:
        self.connection.put(data, f"{self.layout.job}/{name}")

    def read(self, name: str) -> bytes:
        """A file of the directory, b"" where it is not there."""
        path = shlex.quote(f"{self.layout.job}/{name}")
        return self.connection.run(f"[ ! -e {path} ] || cat {path}", check=True).out

    def launch(self) -> None:
        """Start the program detached from this connection. A second start of the same directory does nothing."""
        directory = shlex.quote(self.layout.job)
        body = f"exec /bin/sh {directory}/source.sh {directory} >{directory}/log 2>&1 </dev/null"
        if self.connection.endpoint.manager == "supervisord":
            start = f"setsid nohup sh -c {shlex.quote(body)} >/dev/null 2>&1 </dev/null &"
        else:
            start = shlex.join(
                [
                    "systemd-run",
                    "--quiet",
                    "--collect",
                    f"--unit={self.layout.unit}",
                    "--description=migrationhub: copy to the new server",
                    "--property=KillMode=control-group",
                    "--property=TimeoutStopSec=60",
                    # However it ends: the private key does not stay.
                    f"--property=ExecStopPost=/bin/rm -f {self.layout.job}/key",
                    "/bin/sh",
                    "-c",
                    body,
                ]
            )
        wait = f"n=0; until [ -e {directory}/pid ] || [ -e {directory}/rc ] || [ $n -ge 100 ]; do "
        wait += "sleep 0.1; n=$((n + 1)); done; "
        check = f"[ -e {directory}/running ] || {{ tail -n 5 {directory}/log >&2; exit 1; }}"
        self.connection.run(f"[ -e {directory}/running ] || {start}\n{wait}{check}", timeout=40, check=True)

    def end(self, seconds: int = 20) -> None:
        """End all processes of the job, first by asking, and let none start any more.

        Takes up to `seconds`, as many again for a stuck one, and the removal of its snapshots.
        """
        stop = (
            "" if self.connection.endpoint.manager == "supervisord" else f"systemctl --no-block stop {self.layout.unit}"
        )
        self.connection.run(
            f"sh -s {shlex.quote(self.layout.job)} {seconds} {shlex.quote(stop)}",
            stdin=(_NO_START + program("end.sh")).encode(),
            timeout=seconds + 90,  # removing snapshots takes its time on a busy machine
            check=True,
        )

    def discard(self) -> None:
        """Take the directory of an ended job out of the way; the last one is kept for a look."""
        directory, kept = shlex.quote(self.layout.job), shlex.quote(self.layout.job + ".previous")
        self.connection.run(
            f"rm -rf {kept}; [ ! -e {directory} ] || {{ rm -f {directory}/key; mv -T {directory} {kept}; }}",
            check=True,
        )

    def left_unfinished(self) -> bool:
        """Whether a sync of this migration began to write to its target, whatever its generation, and none since came
        to its end."""
        states = shlex.quote(self.layout.state.rpartition("/")[0])
        return self.connection.run(f'for f in {states}/*/unfinished; do [ -e "$f" ] && exit 0; done; exit 1').rc == 0

    def drop_key(self) -> None:
        self.connection.run(["rm", "-f", f"{self.layout.job}/key"])
