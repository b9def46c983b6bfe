"""Settings from the environment. `NAME_FILE` names a file that holds the value, for secrets."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


class ConfigurationError(Exception):
    """A setting that cannot be used: names it, its value, what was expected."""


def text(name: str, default: str = "") -> str:
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{name}_FILE={path}: cannot be read: {error.strerror}.") from error
    return os.environ.get(name, default)


def flag(name: str, default: bool = False) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off", ""):
        return False
    raise ConfigurationError(f"{name}={value}: expected 1 or 0.")


def number(name: str, default: int) -> int:
    value = text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ConfigurationError(f"{name}={value}: expected a whole number.") from None


def choice(name: str, values: tuple[str, ...]) -> str:
    """One of `values`; the first is the default."""
    value = text(name, values[0]).lower()
    if value not in values:
        raise ConfigurationError(f"{name}={value}: expected {', '.join(values[:-1])} or {values[-1]}.")
    return value


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def database(url: str, base: Path) -> dict[str, object]:
    """`DATABASE_URL` as Django wants it: `sqlite:///path` or `postgres://user:password@host:port/name`.

    What follows a `?` are libpq's own parameters: `sslmode=verify-full&sslrootcert=/etc/…`, or `host=` of a socket.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = Path(unquote(parts.path.removeprefix("/"))) if parts.path != "/" else base / "db.sqlite3"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path if path.is_absolute() else base / path),
            "OPTIONS": {
                "timeout": 20,  # seconds to wait for another writer
                "transaction_mode": "IMMEDIATE",  # take the write lock at once: no upgrade, no SQLITE_BUSY
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    if parts.scheme in ("postgres", "postgresql"):
        options = _libpq(parts.query)
        socket = options.pop("host", "")
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.removeprefix("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or "") or socket,
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": options,
        }
    raise ConfigurationError(
        f"DATABASE_URL={parts.scheme}://…: expected sqlite:///path or postgres://user:password@host:port/name."
    )


def _libpq(query: str) -> dict[str, str]:
    """Parameters of a connection, by name. One that is not known is refused: it may ask for TLS to be verified."""
    from psycopg import pq  # not where SQLite serves

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - {"user", "password", "port", "dbname"}
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in known or not value:
            raise ConfigurationError(
                f"DATABASE_URL=postgres://…?{name}={value and '…'}: expected a parameter of libpq with its value, such"
                " as sslmode=verify-full. User, password, port and name stand before the ?."
            )
    return options
