"""Defects as they are entered: on a page of their own, or with a rejection."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.http import QueryDict

from migrationhub.lib.reading import whole
from projects.defects import FOUND_AT, Draft
from projects.errors import NotReady
from projects.models import Application, Defect, Migration, Step, Wave
from projects.readers import who_see
from projects.templatetags.hub import person

from .base import SetupForm

ROWS = 3  # that a rejection offers; more are raised on their own page


class PeopleField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Members of the project by their names."""

    def label_from_instance(self, obj: User) -> str:
        return person(obj)


def members_of(project_id: int) -> Any:
    return User.objects.filter(memberships__project=project_id, is_active=True).order_by("first_name", "username")


def assignees(application: Application, wave: int) -> Any:
    """Members who may see the application, and so can see to its defects."""
    return who_see(application, wave).order_by("first_name", "username")


def places(wave: Wave, application: Application) -> list[tuple[int, str]]:
    """Where a defect of this application can have been found: the steps of its servers that were begun."""
    steps = Step.objects.filter(
        migration__wave=wave,
        migration__application=application,
        migration__state=Migration.State.OPEN,
        kind__in=FOUND_AT,
    ).select_related("migration__source")
    ordered = sorted(steps, key=lambda step: (step.started_at is None, -step.position, step.migration.source.name))
    return [(step.pk, f"{step.migration.source.name}, {step.get_kind_display().lower()}") for step in ordered]


class DefectForm(SetupForm):
    title = forms.CharField(
        label="What does not work", max_length=200, help_text="One line, as you would tell a colleague."
    )
    description = forms.CharField(
        label="What you did, what you saw, what you expected",
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    severity = forms.ChoiceField(
        label="How bad is it",
        choices=Defect.Severity.choices,
        initial=Defect.Severity.BLOCKING,
        help_text="A blocking defect holds sign-off, go and declaration until somebody has verified that it is mended.",
    )
    step = forms.TypedChoiceField(label="Where was it found", coerce=int)
    assignee = PeopleField(
        queryset=User.objects.none(), label="Who sees to it", required=False, empty_label="Nobody yet"
    )
    expected = {
        "title": "Say in one line what does not work.",
        "step": "Choose a server and a step of the list.",
        "assignee": "Choose somebody of the list: they are all who may see the application.",
    }

    def __init__(self, *args: Any, wave: Wave, application: Application, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        step, assignee = self.fields["step"], self.fields["assignee"]
        assert isinstance(step, forms.TypedChoiceField)
        assert isinstance(assignee, PeopleField)
        step.choices = places(wave, application)
        assignee.queryset = assignees(application, wave.pk)

    def draft(self) -> Draft:
        data = self.cleaned_data
        return Draft(data["step"], data["title"], data["description"], data["severity"], data["assignee"])


def drafts(data: QueryDict) -> list[Draft]:
    """Defects of a rejection: the fields `defect_title`, `defect_severity` and `defect_step`, once for each row.

    Rows without a title are none. Raises NotReady where a row is not complete.
    """
    titles = data.getlist("defect_title")
    severities, steps = data.getlist("defect_severity"), data.getlist("defect_step")
    found = []
    for number, title in enumerate(titles):
        if not title.strip():
            continue
        severity = severities[number] if number < len(severities) else Defect.Severity.BLOCKING
        step = steps[number] if number < len(steps) else ""
        key = whole(step)
        if key is None:
            raise NotReady([f"Defect “{title.strip()[:40]}”: choose the server on which it was found."])
        found.append(Draft(key, title.strip(), "", severity))
    return found
