"""Projects, members, applications."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils.text import slugify

from migrationhub.lib.findings import Problem
from projects import calendar
from projects.models import Application, Membership, Project

from .base import SetupForm, row_initial, row_key, sentence


class ZoneField(forms.CharField):
    """The IANA name of a time zone; the browser suggests those that there are."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", "Time zone")
        kwargs.setdefault("help_text", "An IANA name such as Europe/Zurich or UTC.")
        kwargs["widget"] = forms.TextInput(attrs={"list": "zones", "autocomplete": "off"})
        super().__init__(max_length=60, **kwargs)

    def clean(self, value: Any) -> str:
        name = str(super().clean(value))
        try:
            calendar.zone(name)
        except Problem as problem:
            raise sentence(problem.text, problem.act) from None
        return name


class ProjectForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100, help_text="What people call it, such as Shop to VME.")
    slug = forms.SlugField(
        label="Short name", max_length=60, required=False, help_text="For addresses; made from the name when empty."
    )
    time_zone = ZoneField(
        initial="UTC", help_text="Times on the project's pages are in this zone, such as Europe/Zurich."
    )
    description = forms.CharField(
        label="Description", required=False, widget=forms.Textarea(attrs={"rows": 3}), help_text="What moves, and why."
    )
    expected = {"slug": "Use letters, digits, hyphens and underscores."}
    FIELDS = marked = ("name", "slug", "time_zone", "description")

    def __init__(self, *args: Any, row: Project | None = None, **kwargs: Any) -> None:
        super().__init__(*args, row=row, initial=row_initial(row, self.FIELDS), **kwargs)

    def _others(self) -> Any:
        return Project.objects.exclude(pk=row_key(self.row))

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if self._others().filter(name__iexact=name).exists():
            raise sentence(f"Name “{name}” is another project's.", "Choose a name that nobody mistakes for it.")
        return name

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        slug = data.get("slug") or slugify(data.get("name", ""))[:60]
        if "name" in data and "slug" in data:
            if not slug:
                self.add_error("slug", sentence(f"No short name can be made from “{data['name']}”.", "Enter one."))
            elif slug == "new" or self._others().filter(slug=slug).exists():
                self.add_error("slug", sentence(f"Short name “{slug}” is taken.", "Enter another one."))
        data["slug"] = slug
        return data


class MemberForm(SetupForm):
    username = forms.CharField(
        label="User name",
        max_length=150,
        help_text="Of an account that exists; “manage.py account” makes new ones.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(label="Role", choices=Membership.Role.choices)

    def clean_username(self) -> str:
        name = str(self.cleaned_data["username"])
        person = User.objects.filter(username__iexact=name, is_active=True).first()
        if person is None:
            raise sentence(
                f"User name “{name}” has no account here.", "Check the spelling, or have the account made first."
            )
        self.cleaned_data["person"] = person
        return name


class RoleForm(SetupForm):
    role = forms.ChoiceField(label="Role", choices=Membership.Role.choices)


class ApplicationForm(SetupForm):
    name = forms.CharField(label="Name", max_length=100, help_text="What its users call it, such as Shop database.")
    slug = forms.SlugField(
        label="Short name", max_length=60, required=False, help_text="For addresses; made from the name when empty."
    )
    owner = forms.ModelChoiceField(
        label="Owner",
        queryset=User.objects.none(),
        required=False,
        empty_label="Nobody yet",
        help_text="Signs for the application. Members with the role application owner are offered.",
    )
    description = forms.CharField(label="Description", required=False, widget=forms.Textarea(attrs={"rows": 2}))
    access_note = forms.CharField(
        label="How a tester reaches the copy",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="In plain words: address, account, what to try. It stands on the owner's acceptance page.",
    )
    waits_for = forms.ModelMultipleChoiceField(
        label="Waits for",
        queryset=Application.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Cutover events of this application wait until those of the ticked ones are proven.",
    )
    expected = {
        "owner": "Make the person a member with the role application owner first.",
        "slug": "Use letters, digits, hyphens and underscores.",
        "waits_for": "Tick applications of this project.",
    }
    FIELDS = ("name", "slug", "owner", "description", "access_note")
    marked = ("name", "slug", "owner_id", "description", "access_note")

    def __init__(self, *args: Any, project: Project, row: Application | None = None, **kwargs: Any) -> None:
        initial = row_initial(row, self.FIELDS)
        if row and row.pk:
            initial["waits_for"] = list(row.waits_for.values_list("pk", flat=True))
        super().__init__(*args, row=row, initial=initial, **kwargs)
        self.project = project
        owners = User.objects.filter(memberships__project=project, memberships__role=Membership.Role.OWNER)
        others = Application.objects.filter(project=project).exclude(pk=row_key(row))
        self.owners = owners
        self.fields["owner"].queryset = owners  # type: ignore[attr-defined]
        self.fields["waits_for"].queryset = others  # type: ignore[attr-defined]
        self.others = others

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        name = data.get("name", "")
        if name and self.others.filter(name__iexact=name).exists():
            self.add_error("name", sentence(f"Name “{name}” is another application's.", "Choose another name."))
        slug = data.get("slug") or slugify(name)[:60]
        if name and not slug:
            self.add_error("slug", sentence(f"No short name can be made from “{name}”.", "Enter one."))
        elif slug and self.others.filter(slug=slug).exists():
            self.add_error("slug", sentence(f"Short name “{slug}” is another application's.", "Enter another one."))
        data["slug"] = slug
        return data
