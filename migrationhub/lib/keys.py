"""Keys that a single machine makes for itself at its first start, readable by its user alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet


def new_secret() -> str:
    return secrets.token_urlsafe(50)


def new_fernet() -> str:
    return Fernet.generate_key().decode()


def stored(path: Path, make: Callable[[], str]) -> str:
    """The key in `path`; made there, atomically and once, where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(make() + "\n")
    try:
        os.link(fresh, path)  # fails if another process was first: then its key holds
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text(encoding="ascii").strip()


def kept_private(path: Path) -> None:
    """Make the file readable by its user alone, before anything is written to it. SQLite's own files follow it."""
    if not path.parent.is_dir():
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except PermissionError:
        pass  # another user's: whoever runs the hub sees to it
