"""The two sides of the bench: each copies the same tree from the same source to its own target."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from migrationhub.lab.bench.hosts import OUR_TARGET, SOURCE, THEIR_TARGET, TREE, Hosts
from migrationhub.lab.state import LabProblem
from servers.movers.base import MoveJob
from servers.movers.rsync.mover import RsyncMover
from servers.progress import Memo, Progress, State
from servers.remote.base import Connection, Endpoint, Result
from servers.remote.ssh import Pool, connect

LOOK_SECONDS = 0.2  # between two looks at our copy: how late its end may be seen
LONGEST_SECONDS = 3600.0


@dataclass(frozen=True)
class Measured:
    """One copy. `bytes_sent` is what rsync wrote to the network; `parts` are seconds, `counts` numbers."""

    seconds: float
    bytes_sent: int
    files_sent: int
    parts: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Side(Protocol):
    def copy(self, kind: str) -> Measured:
        """Bring the side's target up to date; after a `kind` “final” its content is proven equal.

        `kind` is initial, delta or final. Raises `LabProblem` if it fails.
        """


class Ours:
    """The mover as controller and tasks drive it: a look, then the act that is due, the memo through JSON."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.logins = 0
        self.commands = 0
        self.pool = Pool(self._connect)
        self.source, self.target = hosts.endpoint(SOURCE), hosts.endpoint(OUR_TARGET)
        self.last: dict[str, Any] = {}
        self.number = 0

    def close(self) -> None:
        self.pool.close()

    def copy(self, kind: str) -> Measured:
        self.number += 1
        job = MoveJob(
            work_key=f"bench:{self.number}",
            kind=kind,
            source=self.source,
            target=self.target,
            connect=self._counted,
            migration_key="bench",
            scope="paths",
            paths=(TREE,),
            proof="checksum",
            receive_mode=False,
            last_sync={} if kind == "initial" else self.last,
        )
        received = 0 if kind == "initial" else self._list_size()
        logins, commands = self.logins, self.commands
        began = time.monotonic()
        progress, parts, looks = self._drive(job)
        seconds = time.monotonic() - began
        if progress.state != State.SUCCEEDED or progress.sync is None:
            raise LabProblem(f"Our copy {progress.state.value}: {progress.reason}", code="bench.ours")
        self.last = progress.sync.as_dict()
        counts = {
            "bytes of the target's list": received,
            "looks": looks,
            "commands of the hub": self.commands - commands,
            "logins of the hub": self.logins - logins,
        }
        return Measured(seconds, progress.sync.bytes_sent, progress.sync.files_sent, parts, counts)

    def _list_size(self) -> int:
        """Bytes of the list that the target will answer with, packed: what rsync's own figures leave out."""
        kept = f"var/lib/migrationhub/bench/*/{self.last['manifest']}.target"
        return int(self.hosts.run(OUR_TARGET, f"sed -z 's#//[^/]*//#//#; s/^/M/' {kept} | gzip -1 | wc -c"))

    def _drive(self, job: MoveJob) -> tuple[Progress, dict[str, float], int]:
        mover, memo, parts, looks = RsyncMover(), Memo(), dict[str, float](), 0
        mark = time.monotonic()
        while mark + LONGEST_SECONDS > time.monotonic():
            looks += 1
            progress = mover.observe(job, memo)
            if progress.ended:
                _add(parts, "last look", mark)
                return progress, parts, looks
            if progress.next_act is None:
                time.sleep(LOOK_SECONDS)
                mark = _add(parts, f"phase {progress.phase}", mark)
                continue
            mark = _add(parts, "looks before acts", mark)
            memo, _ = mover.advance(job, memo)
            memo = json.loads(json.dumps(memo))
            mark = _add(parts, f"act {progress.next_act}", mark)
        raise LabProblem(f"Our copy did not end within {LONGEST_SECONDS:g} s.", code="bench.ours")

    def _connect(self, endpoint: Endpoint) -> Connection:
        self.logins += 1
        return connect(endpoint)

    def _counted(self, endpoint: Endpoint) -> Connection:
        return _Counted(self, self.pool.connect(endpoint))


class _Counted:
    """A connection that counts what is asked of it."""

    def __init__(self, side: Ours, inner: Connection) -> None:
        self._side, self._inner, self.endpoint = side, inner, inner.endpoint

    def run(self, command: str | Sequence[str], **options: Any) -> Result:
        self._side.commands += 1
        return self._inner.run(command, **options)

    def put(self, data: bytes, path: str, *, mode: int = 0o600) -> None:
        self._side.commands += 1
        self._inner.put(data, path, mode=mode)

    def get(self, path: str, *, limit: int = 16 << 20) -> bytes:
        self._side.commands += 1
        return self._inner.get(path, limit=limit)

    def close(self) -> None:
        self._inner.close()


class Theirs:
    """Plain rsync from the source's own shell. Its key pair is of the same type as that of a sync of ours."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.target = hosts.endpoint(THEIR_TARGET)
        public = hosts.run(
            SOURCE,
            "umask 077; mkdir -p .ssh && cd .ssh && rm -f bench bench.pub && "
            "ssh-keygen -q -t ed25519 -N '' -C bench -f bench && cat bench.pub",
        )
        hosts.run(THEIR_TARGET, f"printf '%s\\n' {shlex.quote(public.strip())} >>.ssh/authorized_keys")
        known = "".join(f"bench-target {key}\n" for key in self.target.host_keys)
        hosts.run(SOURCE, f"printf %s {shlex.quote(known)} >.ssh/bench_known")
        hosts.run(SOURCE, f"printf %s {shlex.quote(self._ssh_config())} >.ssh/bench_config")

    def _ssh_config(self) -> str:
        """What has a part in speed and trust as in the mover's own."""
        directory = self.hosts.backend.root(SOURCE) / ".ssh"
        return f"""Host target
  HostName {self.target.address}
  Port {self.target.port}
  User {self.target.username}
  IdentityFile {directory}/bench
  IdentitiesOnly yes
  HostKeyAlias bench-target
  UserKnownHostsFile {directory}/bench_known
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  PreferredAuthentications publickey
  Compression no
  ControlMaster no
  LogLevel ERROR
"""

    def copy(self, kind: str) -> Measured:
        out, seconds = self._rsync("--stats", "--no-human-readable")
        parts = {"rsync": seconds}
        if kind == "final":
            found, parts["dry run with --checksum"] = self._rsync("-n", "-i", "--checksum")
            if found:
                raise LabProblem(f"Plain rsync left differences: {found[:300]}", code="bench.theirs")
        return Measured(
            sum(parts.values()),
            _stated(out, r"^Total bytes sent: (\d+)"),
            _stated(out, r"^Number of regular files transferred: (\d+)"),
            parts if len(parts) > 1 else {},
            counts={"bytes received": _stated(out, r"^Total bytes received: (\d+)")},
        )

    def _rsync(self, *options: str) -> tuple[str, float]:
        """What it prints, and the seconds that it takes: taken on the spot, how the bench waits is no part of it."""
        source, target = self.hosts.backend.root(SOURCE), self.hosts.backend.root(THEIR_TARGET)
        command = shlex.join(
            [
                *("rsync", "-aHAX", "--numeric-ids", "--delete", *options),
                *("-e", f"ssh -F {source}/.ssh/bench_config"),
                *(f"{source}/{TREE}/", f"target:{target}/{TREE}/"),
            ]
        )
        out = self.hosts.run(SOURCE, f'a=$(date +%s%N); {command} || exit; echo "took $(($(date +%s%N) - a))"')
        said, _, took = out.rpartition("took ")
        return said, int(took) / 1e9


def _add(parts: dict[str, float], name: str, since: float) -> float:
    """Book the time since then; returns now."""
    now = time.monotonic()
    parts[name] = parts.get(name, 0.0) + now - since
    return now


def _stated(output: str, pattern: str) -> int:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise LabProblem(
            f"Plain rsync did not print {pattern!r}: {output[-300:]}",
            "Check the version of rsync on this machine.",
            code="bench.stats",
        )
    return int(found[1])
