"""Settings from the environment: what is asked for is done or refused, never dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrationhub.lib import env


def test_parameters_of_a_connection_are_passed_on() -> None:
    """Else TLS would not be verified although it was asked for."""
    url = "postgres://hub:p%40ss@db.lab:5433/hub?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    found = env.database(url, Path("/"))
    assert found["OPTIONS"] == {"sslmode": "verify-full", "sslrootcert": "/etc/ca.pem"}
    assert (found["HOST"], found["PORT"], found["PASSWORD"]) == ("db.lab", "5433", "p@ss")


def test_a_socket_is_named_as_host() -> None:
    found = env.database("postgres://hub@/hub?host=/run/postgresql", Path("/"))
    assert (found["HOST"], found["OPTIONS"]) == ("/run/postgresql", {})


@pytest.mark.parametrize("query", ["sslmod=verify-full", "sslmode=", "sslmode", "password=secret"])
def test_what_is_not_known_is_refused_by_name(query: str) -> None:
    with pytest.raises(env.ConfigurationError, match=query.partition("=")[0]) as caught:
        env.database(f"postgres://hub@db.lab/hub?{query}", Path("/"))
    assert "secret" not in str(caught.value)
