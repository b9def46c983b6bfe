"""Projects, members, applications."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.text import slugify

from migrationhub.lib.findings import Problem
from projects import calendar
from projects.models import Application, Membership, Project

from .base import SetupForm, Ticks, row_initial, row_key, sentence


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
        help_text="Of an account that exists. Whoever has none yet is invited by e-mail.",
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


class InviteForm(SetupForm):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text="The invitation goes there, and only whoever has this mailbox can take it.",
    )
    role = forms.ChoiceField(label="Role", choices=Membership.Role.choices)
    application = forms.ModelChoiceField(
        label="Application",
        queryset=Application.objects.none(),
        required=False,
        empty_label="None",
        help_text="For an application owner: an application without owner, which becomes theirs.",
    )
    expected = {"email": "Enter an address such as anna@example.com.", "application": "Choose one without owner."}

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        without = Application.objects.filter(project=project, owner=None)
        self.fields["application"].queryset = without  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("application") and data.get("role") != Membership.Role.OWNER:
            words = f"Application “{data['application']}” is for an application owner alone."
            self.add_error("application", sentence(words, "Choose that role, or no application."))
        return data


class JoinForm(SetupForm):
    """A new account by an invitation."""

    username = forms.CharField(
        label="User name",
        max_length=150,
        validators=[User.username_validator],
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text="With it you log in.",
    )
    full_name = forms.CharField(
        label="Your name",
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text="As others see it, such as Anna Adler.",
    )
    password = forms.CharField(
        label="Password", max_length=200, strip=False, widget=forms.PasswordInput, help_text="10 characters or more."
    )
    again = forms.CharField(
        label="Password, once more",
        max_length=200,
        strip=False,
        widget=forms.PasswordInput,
        help_text="The same again.",
    )
    expected = {"username": "Use letters, digits and . _ - @ +"}

    def clean_again(self) -> str:
        if self.cleaned_data["again"] != self.cleaned_data.get("password", self.cleaned_data["again"]):
            raise sentence("The two passwords differ.", "Enter the same one twice.")
        return str(self.cleaned_data["again"])


class StandInForm(SetupForm):
    applications = Ticks(
        label="For",
        queryset=Application.objects.none(),
        help_text="Applications whose owner is absent.",
    )
    person = forms.ModelChoiceField(
        label="Stand-in",
        queryset=User.objects.none(),
        empty_label="Choose",
        help_text="A member with the role application owner who ran nothing of these applications.",
    )
    first_day = forms.DateField(label="First day", widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"))
    last_day = forms.DateField(
        label="Last day",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text="It ends by itself when this day ends.",
    )
    why = forms.CharField(
        label="Why", max_length=500, help_text="Such as: on holiday. It stands beside what is signed."
    )
    expected = {
        "applications": "Tick applications of this project that have an owner.",
        "person": "Make the person a member with the role application owner first.",
        "first_day": "Enter a day such as 2026-11-28.",
        "last_day": "Enter a day such as 2026-12-05.",
    }

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = ZoneInfo(project.time_zone)
        self.initial.setdefault("first_day", timezone.localdate(timezone=self.zone))
        owned = Application.objects.filter(project=project).exclude(owner=None).select_related("owner")
        people = User.objects.filter(
            memberships__project=project, memberships__role=Membership.Role.OWNER, is_active=True
        )
        fields: Any = self.fields
        fields["applications"].queryset = owned
        fields["applications"].label_from_instance = lambda row: f"{row} ({row.owner.get_full_name() or row.owner})"
        fields["person"].queryset = people
        fields["person"].label_from_instance = lambda user: user.get_full_name() or user.username

    def clean(self) -> dict[str, Any]:
        """The days become moments in the project's zone; one that begins today begins now."""
        data = self.cleaned_data
        for name in ("first_day", "last_day"):
            if name in data:
                self._check_day(name, data[name])
        if "first_day" in data and "last_day" in data:
            first, last = data["first_day"], data["last_day"]
            if last < first:
                words = f"Last day “{last}” is before the first, “{first}”."
                self.add_error("last_day", sentence(words, "Enter that day or a later one."))
            elif last < timezone.localdate(timezone=self.zone):
                self.add_error("last_day", sentence(f"Last day “{last}” is over.", "Enter today or a later day."))
            data["starts_at"] = datetime.combine(first, time(), self.zone)
            data["ends_at"] = datetime.combine(last + timedelta(days=1), time(), self.zone)
        return data

    def _check_day(self, name: str, day: date) -> None:
        try:
            calendar.check_day(day, timezone.localdate(timezone=self.zone))
        except Problem as problem:
            self.add_error(name, sentence(f"{self.fields[name].label}: {problem.text}", problem.act))


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
    waits_for = Ticks(
        label="Waits for",
        queryset=Application.objects.none(),
        required=False,
        help_text="Cutover events of this application wait until those of the ticked ones are proven.",
    )
    expected = {
        "owner": "Make the person a member with the role application owner first.",
        "slug": "Use letters, digits, hyphens and underscores.",
        "waits_for": "Tick applications of this project.",
    }
    FIELDS = ("name", "slug", "owner", "description", "access_note")
    marked = ("name", "slug", "owner_id", "description", "access_note", "waits_for")

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
