"""Mail leaves through the SMTP server that the environment names, or not at all; never does the log hold a link."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.mail import EmailMessage

from migrationhub.lib.env import ConfigurationError
from migrationhub.lib.mail import Unsent, mailer

LINK = "https://hub.example/invitations/secret-token/"


def test_what_is_not_sent_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sent = Unsent(alias="default").send_messages([EmailMessage("Come in", LINK, to=["nina@example.com"])])
    assert sent == 0
    assert "Not sent, as SMTP_HOST is empty: “Come in” to nina@example.com" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    ("security", "tls", "ssl"), [("starttls", True, False), ("tls", False, True), ("none", False, False)]
)
def test_how_the_server_is_spoken_to(security: str, tls: bool, ssl: bool) -> None:
    options = mailer("mail.example", 465, security=security, user="hub", password="pw")["OPTIONS"]
    assert (options["host"], options["port"], options["use_tls"], options["use_ssl"]) == ("mail.example", 465, tls, ssl)
    assert options["timeout"] <= 10


def test_a_security_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"SMTP_SECURITY=ssl: expected starttls, tls, none\."):
        mailer("mail.example", 25, security="ssl", user="", password="")


def asked(tmp_path: Path, **environment: str) -> str:
    """What the settings make of an environment."""
    env = {**os.environ, "MIGRATIONHUB_VAR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "migrationhub.settings"}
    code = "from django.conf import settings as s; print(s.MAIL_SENT, s.MAILERS['default'], s.SITE_URL)"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(
        argv, env={**env, **environment}, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_the_environment_decides(tmp_path: Path) -> None:
    assert asked(tmp_path, SMTP_HOST="").startswith("False {'BACKEND': 'migrationhub.lib.mail.Unsent'}")
    secret = tmp_path / "password"
    secret.write_text("from-a-file\n")
    told = asked(tmp_path, SMTP_HOST="mail.example", SMTP_PASSWORD_FILE=str(secret), SITE_URL="https://hub.example/")
    assert told.startswith("True") and "'password': 'from-a-file'" in told and told.endswith("https://hub.example\n")
