"""What people want to hear, how loud a project is, and its webhooks."""

from __future__ import annotations

from typing import Any

from django import forms

from migrationhub.lib.findings import Problem
from projects.models import NoticeKind, NoticeSettings, ProjectNotices, Webhook
from projects.notify import webhooks

from .base import SetupForm, row_initial, sentence

HOURS = [("", "None"), *((str(hour), f"{hour:02d}:00") for hour in range(24))]


class KindsField(forms.MultipleChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=NoticeKind.choices, widget=forms.CheckboxSelectMultiple, **kwargs)


def _hour(value: str) -> int | None:
    return int(value) if value else None


class NoticesForm(SetupForm):
    kinds = KindsField(label="Send me an e-mail when", required=False, help_text="Never about what you did yourself.")
    quiet_from = forms.TypedChoiceField(
        label="Quiet from", choices=HOURS, coerce=_hour, empty_value=None, required=False
    )
    quiet_until = forms.TypedChoiceField(
        label="Quiet until", choices=HOURS, coerce=_hour, empty_value=None, required=False
    )
    sections_of = (
        ("Quiet hours", "What happens in them comes in one mail at their end.", ("quiet_from", "quiet_until")),
    )

    def __init__(self, *args: Any, chosen: NoticeSettings, **kwargs: Any) -> None:
        initial = row_initial(chosen, ("kinds", "quiet_from", "quiet_until")) if chosen.pk else {"kinds": chosen.kinds}
        for name in ("quiet_from", "quiet_until"):
            initial[name] = "" if initial.get(name) is None else str(initial[name])
        super().__init__(*args, initial=initial, **kwargs)


class ModeForm(SetupForm):
    mode = forms.ChoiceField(label="How loud", choices=ProjectNotices.Mode.choices)
    expected = {"mode": "Choose live, test or off."}


class WebhookForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100, help_text="What the team calls it, such as #migration.")
    format = forms.ChoiceField(label="What is posted", choices=Webhook.Format.choices)
    url = forms.CharField(
        label="Address",
        required=False,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"placeholder": "https://"}),
        help_text="Kept encrypted and never shown again, as whoever knows it can post there.",
    )
    new_secret = forms.BooleanField(label="Make a new secret", required=False)
    kinds = KindsField(label="Post when")
    is_on = forms.BooleanField(label="Switched on", required=False, initial=True)
    expected = {
        "name": "Enter a name.",
        "url": "Enter where it is posted to, such as https://hooks.example.com/….",
        "kinds": "Choose at least one.",
    }
    FIELDS = ("name", "format", "kinds", "is_on")
    marked = (*FIELDS, "host", "url", "secret")

    def __init__(self, *args: Any, row: Webhook | None = None, **kwargs: Any) -> None:
        super().__init__(*args, row=row, initial=row_initial(row, self.FIELDS), **kwargs)
        if row is None:
            del self.fields["new_secret"]
            self.fields["url"].required = True
            self.fields["kinds"].initial = [kind for kind in NoticeKind.values if kind != NoticeKind.NEXT]
        else:
            self.fields["url"].help_text = f"Posts to {row.host}. Leave it empty to keep it; it is never shown."
            self.fields["new_secret"].help_text = "For the signed format: the one before counts no more."

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        if not url:
            return ""  # as it is
        try:
            webhooks.host_of(url)
        except Problem as problem:
            raise sentence(problem.text, problem.act) from None
        return url

    def values(self, *but: str) -> dict[str, Any]:
        return {"new_secret": False, **super().values(*but)}
