"""What a press of a button can run into."""

from __future__ import annotations

from migrationhub.lib.findings import Problem


class Conflict(Problem):
    """The state has changed since the button was drawn: nothing was done, the person is shown what is now."""


class NotReady(Problem):
    """Something that must hold does not hold yet; `unmet` says what, in words."""

    def __init__(self, unmet: list[str], act: str = "") -> None:
        self.unmet = unmet
        super().__init__("; ".join(unmet), act, code="not_ready")


class Forbidden(Problem):
    """This person may not do this."""
