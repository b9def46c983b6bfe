"""The policy of a gate."""

from __future__ import annotations

from typing import Any

from django import forms

from projects.models import Approval, ApprovalPolicy, Membership

from .base import SetupForm

Role = Membership.Role
CHOICES = {
    Approval.Gate.SIGN_OFF: [(Role.OWNER, "The application's owner"), (Role.LEAD, "Leads"), (Role.MANAGER, "Managers")],
    Approval.Gate.GO: [(Role.LEAD, "Leads"), (Role.OPERATOR, "Operators"), (Role.MANAGER, "Managers")],
}


class PolicyForm(SetupForm):
    roles = forms.MultipleChoiceField(label="Who may answer", widget=forms.CheckboxSelectMultiple)
    needed = forms.IntegerField(
        label="How many different people must say yes",
        min_value=1,
        max_value=20,
        help_text="One person counts once, also where somebody answered in their place.",
    )
    runner_may = forms.BooleanField(
        label="Whoever started a step of these servers may answer too",
        required=False,
        help_text="Off: four eyes, always.",
    )
    expires_hours = forms.IntegerField(
        label="Expires after … hours without an answer",
        min_value=0,
        max_value=2000,
        help_text="0: never. Expired is not approved; it must be requested again.",
    )
    remind_hours = forms.IntegerField(label="Remind after … hours", min_value=0, max_value=2000, help_text="0: never.")
    expected = {
        "roles": "Choose at least one role, else nobody could answer.",
        "needed": "Enter a whole number from 1 to 20.",
        "expires_hours": "Enter whole hours, 0 for never.",
        "remind_hours": "Enter whole hours, 0 for never.",
    }
    FIELDS = ("roles", "needed", "runner_may", "expires_hours", "remind_hours")

    def __init__(self, *args: Any, policy: ApprovalPolicy, **kwargs: Any) -> None:
        initial = {name: getattr(policy, name) for name in self.FIELDS}
        super().__init__(*args, initial=initial, **kwargs)
        roles = self.fields["roles"]
        assert isinstance(roles, forms.MultipleChoiceField)
        roles.choices = CHOICES[Approval.Gate(policy.gate)]
        if policy.gate == Approval.Gate.SIGN_OFF:
            del self.fields["runner_may"]  # never: whoever runs it does not sign what it made
            roles.help_text = "The owner's own yes is always among them."

    def values(self, *but: str) -> dict[str, Any]:
        return {"runner_may": False, **super().values(*but)}
