"""What comes of handing a message over, other than that it was taken."""

from __future__ import annotations


class NotSent(Exception):
    """It certainly did not arrive. `again`: trying later may help."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


class Unclear(Exception):
    """It may have arrived: the other side had it in its hands and gave no answer. It is not sent again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
