"""What every page owes to whoever must not read, press or guess: headers, closed doors, private files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from migrationhub.lib import keys
from tests import factories

pytestmark = pytest.mark.django_db
CLOSED = ["password/reset/", "password/reset/key/1-x/", "email/", "confirm-email/x/"]


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/signup/", "/accounts/nothing/", "/projects/x/"])
def test_every_answer_carries_the_policy(path: str) -> None:
    policy = Client().get(path, follow=True).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", CLOSED)
def test_no_page_says_that_a_mail_was_sent(path: str) -> None:
    """No mail is sent; the console back end would have written the link that opens an account into the log."""
    assert Client().get(f"/accounts/{path}").status_code == 404
    assert Client().post(f"/accounts/{path}", {"email": "a@b.example"}).status_code == 404


def test_logging_in_leads_nowhere_else_and_guessing_is_slowed_down() -> None:
    user = factories.make_user(log_in=True, email="")
    right = {"login": user.username, "password": factories.PASSWORD}
    response = Client().post("/accounts/login/", {**right, "next": "https://evil.example/"})
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    cookie = response.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    client = Client()
    for _ in range(6):
        client.post("/accounts/login/", {**right, "password": "wrong"})
    assert "Too many failed" in client.post("/accounts/login/", right).content.decode()


def test_a_file_of_ours_is_nobody_elses(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("kept")
    old.chmod(0o644)
    for path in (old, new):
        keys.kept_private(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert old.read_text() == "kept"
    keys.kept_private(tmp_path / "missing" / "file")
    assert not (tmp_path / "missing").exists()


def test_settings_are_fit_for_the_open_with_https(tmp_path: Path) -> None:
    env = {**os.environ, "MIGRATIONHUB_VAR": str(tmp_path), "HTTPS": "1", "ALLOWED_HOSTS": "hub.example"}
    env["DJANGO_SETTINGS_MODULE"] = "migrationhub.settings"
    argv = [sys.executable, str(settings.BASE_DIR / "manage.py"), "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((tmp_path / "db.sqlite3").stat().st_mode) == 0o600


def test_every_setting_is_explained() -> None:
    """Each environment variable that the settings read stands in .env.example."""
    text = (settings.BASE_DIR / "migrationhub" / "settings.py").read_text()
    told = (settings.BASE_DIR / ".env.example").read_text()
    names = {
        part.split('"', 1)[0]
        for kind in ("text", "flag", "number", "words")
        for part in text.split(f'env.{kind}("')[1:]
    }
    assert len(names) > 10
    assert sorted(name for name in names if f"{name}=" not in told) == []
