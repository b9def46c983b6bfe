"""What the job directory on the source tells, and nothing else is believed: a finished transient unit vanishes,
and systemd says “success” of a unit that it does not know."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from servers.movers.rsync.progress_parse import Pass, parse

# In the order in which a sync goes through them; the furthest one reached is shown, so it never goes back.
PHASES = (
    "waiting",
    "preparing",
    "entering receive mode",
    "starting",
    "comparing",
    "copying",
    "finishing-database",
    "proving",
    "finishing",
    "done",
)


@dataclass(frozen=True)
class Look:
    """One look at the source. `life`: alive, dead or "" (never started); `rc` None until it ended by itself."""

    boot: str
    exists: bool
    token: str = ""
    life: str = ""
    rc: int | None = None
    phase: str = ""
    error: str = ""
    log: str = ""
    notes: tuple[str, ...] = ()
    full: str = ""  # why everything was compared, "" for a delta
    live: bool = False  # consistency was lost on the way
    as_of: datetime | None = None
    ended_at: datetime | None = None
    discarded: tuple[str, ...] = ()
    discarded_count: int = 0
    config_changed: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()

    @property
    def running(self) -> bool:
        return self.rc is None and self.life == "alive"

    @property
    def ended(self) -> bool:
        return self.rc is not None or self.life == "dead"

    @property
    def touched_target(self) -> bool:
        return bool(self.phase) and PHASES.index(self.phase) >= PHASES.index("copying")


def parse_lines(output: bytes) -> dict[str, bytes]:
    """The fields of lines “name base64”. Raises `ValueError` for anything else."""
    fields: dict[str, bytes] = {}
    for line in output.splitlines():
        name, _, value = line.partition(b" ")
        try:
            fields[name.decode("ascii")] = base64.b64decode(value, validate=True)
        except (UnicodeDecodeError, binascii.Error) as error:
            raise ValueError(f"not a line of our programs: {line[:80]!r}") from error
    return fields


def parse_look(output: bytes) -> Look:
    """A look from what `state.sh` printed. Raises `ValueError` for output that is not its."""
    fields = parse_lines(output)
    if "boot" not in fields:
        raise ValueError("the machine told no boot id")

    def text(name: str) -> str:
        return fields.get(name, b"").decode("utf-8", "backslashreplace").strip()

    return Look(
        boot=text("boot"),
        exists="directory" in fields,
        token=text("try"),
        life=text("life"),
        rc=int(text("rc")) if text("rc") else None,
        phase=_furthest(text("phases").split("\n")),
        error=text("error"),
        log=text("log"),
        notes=tuple(dict.fromkeys(line for line in text("notes").splitlines() if line)),
        full=text("full"),
        live="live" in fields,
        as_of=_moment(text("as_of"), 100),
        ended_at=_moment(text("ended"), 10**9),
        discarded=_paths(fields.get("discarded.head", b"")),
        discarded_count=_number(text("discarded.count")),
        config_changed=tuple(f"/{path}" for path in _paths(fields.get("config.head", b""))),
        passes=_passes(fields),
    )


def _furthest(names: list[str]) -> str:
    known = [PHASES.index(name) for name in names if name in PHASES]
    return PHASES[max(known)] if known else ""


def _moment(text: str, parts: int) -> datetime | None:
    return datetime.fromtimestamp(int(text) / parts, UTC) if text.isdigit() else None


def _paths(data: bytes) -> tuple[str, ...]:
    return tuple(path.decode("utf-8", "backslashreplace") for path in data.split(b"\0") if path)


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _passes(fields: dict[str, bytes]) -> tuple[Pass, ...]:
    passes, number = [], 1
    while f"out-{number}" in fields:
        total = _number(fields.get(f"total-{number}", b"").decode("ascii", "replace"))
        entries = _number(fields.get(f"entries-{number}", b"").decode("ascii", "replace"))
        passes.append(parse(fields[f"out-{number}"].decode("utf-8", "replace"), total, entries))
        number += 1
    return tuple(passes)
