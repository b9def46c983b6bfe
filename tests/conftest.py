"""What every test gets: no way to the outside, and a visible reason where a test cannot run here."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest
from django.db import connection

pytest_plugins = ["tests.fixtures_audit", "tests.fixtures_lab", "tests.fixtures_nspawn", "tests.engine"]

# Loopback and the labs' own ranges, 10.100.0.0 to 10.163.255.255.
ALLOWED_HOSTS = "127.0.0.0/8,::1,10.100.0.0/14,10.104.0.0/13,10.112.0.0/12,10.128.0.0/11,10.160.0.0/14"
# A fixture that makes hosts marks its tests, so that `-m "not lab"` is as fast as it says.
MARKED_BY_FIXTURE = {"process_lab": "lab", "two": "lab", "sides": "lab", "nspawn_lab": "nspawn"}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not config.option.allow_hosts:
        config.option.allow_hosts = ALLOWED_HOSTS
        config.option.allow_unix_socket = True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in MARKED_BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
        if item.get_closest_marker("browser") and not item.nodeid.startswith("tests/browser/"):
            raise pytest.UsageError(f"{item.nodeid} would not be run: .ci/tests looks for pages in tests/browser.")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A requirement that is missing skips the test; where all are required (`make test` as root) it fails."""
    for marker in ("lab", "nspawn", "browser", "postgres"):
        if item.get_closest_marker(marker) and (missing := missing_for(marker)):
            reason = f"{marker} tests need {missing}"
            if os.environ.get("MIGRATIONHUB_REQUIRE_ALL") == "1" and os.geteuid() == 0:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@cache
def missing_for(marker: str) -> str:
    """What this machine lacks for tests with a marker, in words; empty if nothing."""
    programs: dict[str, tuple[str, ...]] = {
        "lab": ("/usr/sbin/sshd", "supervisord", "rsync", "ssh-keygen"),
        "nspawn": ("systemd-nspawn", "debootstrap", "ip", "nft", "named", "mkfs.btrfs"),
        "browser": ("/usr/bin/chromium",),
        "postgres": ("/usr/lib/postgresql/15/bin/initdb",),
    }
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = [name for name in programs[marker] if not shutil.which(name, path=path)]
    if marker == "nspawn" and os.geteuid() != 0:
        lacking.append("root")
    if marker == "nspawn" and not Path("/proc/self/ns/net").exists():
        lacking.append("network namespaces")
    return ", ".join(lacking)


# A SQLite file with all tables that .ci/tests made for all of its parts: migrating takes ten seconds.
MIGRATED = Path(os.environ.get("MIGRATIONHUB_TEST_DATABASE", "/nonexistent"))


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    return connection.vendor == "sqlite" and MIGRATED.exists()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory, django_db_keepdb: bool) -> None:
    """SQLite in a file, as users have it: there a second writer waits, where one in memory is refused at once."""
    if connection.vendor == "sqlite":
        own = tmp_path_factory.mktemp("database") / "tests.sqlite3"
        if django_db_keepdb:
            shutil.copyfile(MIGRATED, own)
        connection.settings_dict["TEST"]["NAME"] = str(own)
