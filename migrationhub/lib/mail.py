"""How mail leaves the house: through an SMTP server, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage

from migrationhub.lib.env import ConfigurationError

log = logging.getLogger(__name__)
SECURITIES = ("starttls", "tls", "none")
TIMEOUT = 10  # seconds to wait for the SMTP server


class Unsent(BaseEmailBackend):
    """Where no SMTP server is named: the log says that a mail was not sent, and to whom.

    It never says what stood in it: a link that opens an account must not stand in a log.
    """

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            log.warning("Not sent, as SMTP_HOST is empty: “%s” to %s", message.subject, ", ".join(message.recipients()))
        return 0


def mailer(host: str, port: int, *, security: str, user: str, password: str) -> dict[str, Any]:
    """An entry of MAILERS. Raises ConfigurationError for a security that there is not."""
    if not host:
        return {"BACKEND": "migrationhub.lib.mail.Unsent"}
    if security not in SECURITIES:
        raise ConfigurationError(f"SMTP_SECURITY={security}: expected {', '.join(SECURITIES)}.")
    options = {"host": host, "port": port, "username": user, "password": password, "timeout": TIMEOUT}
    options |= {"use_tls": security == "starttls", "use_ssl": security == "tls"}
    return {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
