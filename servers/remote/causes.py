"""Why a command on a machine failed, from its own words, and what to do about it."""

from __future__ import annotations

# Words on standard error (in English: LC_ALL=C), the cause that they name, the next act.
_CAUSES = (
    ("Read-only file system", "a file system is read-only", "Look why (dmesg), mount it writable, then retry."),
    ("No space left on device", "a file system is full", "Free space or inodes there, then retry."),
    ("Disk quota exceeded", "a disk quota is used up", "Raise it or free space there, then retry."),
    ("Permission denied", "a right is missing", "Use a credential that is root or may use sudo, then retry."),
    ("Operation not permitted", "a right is missing", "Use a credential that is root or may use sudo, then retry."),
    ("Input/output error", "a disk cannot be read or written", "Look at the disk and at dmesg there, then retry."),
    ("Cannot allocate memory", "memory is used up", "Free memory there, then retry."),
)
_MISSING = 127  # what a shell leaves for a program that is not there


def cause_of(said: str, status: int = 1) -> tuple[str, str]:
    """The cause in words, "" where `said` names none that is known, and the next act."""
    for words, cause, act in _CAUSES:
        if words in said:
            return cause, act
    if status == _MISSING:
        return "a program is missing", "Install what is named there, then retry."
    return "", "Look on the machine for the cause that it names, then retry."
