"""What a check found, in words a person can act on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    READY = "ready"
    WARNING = "warning"
    BLOCKING = "blocking"


@dataclass(frozen=True)
class Finding:
    """One finding: what was seen (`text`) and what to do next (`act`, empty when ready)."""

    level: Level
    code: str  # stable, machine readable: "rsync.missing"
    text: str
    act: str = ""
    subject: str = ""  # what it is about: a server, a path, a field

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        return cls(**{**data, "level": Level(data["level"])})


class Problem(Exception):
    """Work that cannot go on, as a sentence that names the cause and the next act.

    `code` is stable and machine readable; `lasting` is False where the same attempt may succeed later
    without anybody doing anything (a host that does not answer, a 500 from an API).
    """

    def __init__(self, text: str, act: str = "", *, code: str = "problem", lasting: bool = True) -> None:
        self.text = text
        self.act = act
        self.code = code
        self.lasting = lasting
        super().__init__(f"{text} {act}".strip())
