"""A message as an e-mail, and what the SMTP server said to it.

SMTP has no exactly-once: where the connection breaks after the text was handed over and before the answer, nobody
knows whether it arrived. Such a mail is not sent again, and the log says that it may have arrived; everything that
ends before the text is tried again.
"""

from __future__ import annotations

from contextlib import suppress
from email.utils import parseaddr
from smtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, mailers
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from projects.models import Message

from .compose import absolute, composed
from .outcomes import NotSent, Unclear


def built(message: Message) -> EmailMultiAlternatives:
    """The mail, with the same Message-ID however often it is tried."""
    said = composed(message)
    context = {"said": said, "settings_url": absolute(reverse("notices", args=[message.project.slug]))}
    _, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    with timezone.override(ZoneInfo(said.zone)):  # templates turn every moment into the current zone
        plain, html = (render_to_string(f"notify/mail.{form}", context) for form in ("txt", "html"))
    mail = EmailMultiAlternatives(
        subject=said.subject,
        body=plain,
        to=[message.to],
        headers={
            "Message-ID": f"<{message.uuid}@{sender.rpartition('@')[2] or 'migrationhub'}>",
            "Auto-Submitted": "auto-generated",  # no answer from somebody's holiday
        },
    )
    mail.attach_alternative(html, "text/html")
    return mail


def hand_over(mail: EmailMultiAlternatives) -> None:
    """Give it to the SMTP server. Raises NotSent, Unclear."""
    connection: Any = mailers["default"]
    began: list[bool] = []
    try:
        try:
            connection.open()
        except (SMTPException, OSError) as error:
            raise NotSent(words(error), again=True) from None
        _notice_text(getattr(connection, "connection", None), began)
        try:
            taken = connection.send_messages([mail])
        except SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise NotSent(f"The address was refused: {code} {_text(text)}", again=code < 500) from None
        except SMTPResponseException as error:
            raise NotSent(words(error), again=error.smtp_code < 500) from None
        except (SMTPException, OSError) as error:
            if began:
                raise Unclear(f"The mail server had the text and gave no answer: {words(error)}") from None
            raise NotSent(words(error), again=True) from None
        if not taken:
            raise NotSent("No mail server is set (SMTP_HOST), or it took nothing.", again=True)
    finally:
        with suppress(SMTPException, OSError):  # what was taken is taken
            connection.close()


def _notice_text(smtp: Any, began: list[bool]) -> None:
    """Know from where on the text is under way: before that a broken connection is no doubt."""
    if smtp is None:
        return
    data = smtp.data

    def watched(text: Any) -> Any:
        began.append(True)
        return data(text)

    smtp.data = watched


def words(error: Exception) -> str:
    """What went wrong, without a password and without the mail's text."""
    if isinstance(error, SMTPResponseException):
        return f"The mail server said: {error.smtp_code} {_text(error.smtp_error)}"[:400]
    return f"{type(error).__name__}: {error}"[:400]


def _text(said: Any) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
