"""Waves and change freezes: local times in a named zone, with what the clocks do that night."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone

from migrationhub.lib.findings import Problem
from projects import calendar
from projects.models import ChangeFreeze, Project, Wave

from .base import SetupForm, row_key, sentence
from .people import ZoneField

WHICH = [("", "—"), (calendar.FIRST, "the first"), (calendar.SECOND, "the second")]
LONG_WINDOW_HOURS = 72


def local_field(label: str, required: bool) -> forms.CharField:
    return forms.CharField(
        label=label,
        required=required,
        widget=forms.TextInput(attrs={"type": "datetime-local"}),
        help_text="Wall-clock time in the zone below.",
    )


def which_field() -> forms.ChoiceField:
    return forms.ChoiceField(label="Which of the two?", choices=WHICH, required=False)


class RangeForm(SetupForm):
    """A start and an end in a named zone. The question which of two equal times is meant is drawn when it arises."""

    optional_range = False
    expected = {
        "starts_at": "Enter date and time such as 2026-11-28T22:00.",
        "ends_at": "Enter date and time such as 2026-11-29T04:00.",
    }

    def __init__(self, *args: Any, project: Project, row: Wave | ChangeFreeze | None = None, **kwargs: Any) -> None:
        initial: dict[str, Any] = {"time_zone": row.time_zone if row else project.time_zone}
        if row:
            initial |= {"name": row.name}
            for side in ("starts", "ends"):
                moment = getattr(row, f"{side}_at")
                if moment:
                    initial[f"{side}_at"] = calendar.input_value(moment, row.time_zone)
                    initial[f"{side}_which"] = calendar.which_of(moment, row.time_zone)
        super().__init__(*args, row=row, initial={**initial, **kwargs.pop("initial", {})}, **kwargs)
        self.project = project
        for side in ("starts", "ends"):
            name = f"{side}_which"
            if not (self.data.get(name) or self.initial.get(name)):
                self.fields[name].widget = forms.HiddenInput()

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        found: dict[str, datetime | None] = {}
        if "time_zone" in data:
            for side in ("starts", "ends"):
                found[side] = self._moment(side)
        starts, ends = found.get("starts"), found.get("ends")
        if starts and ends:
            self._check_length(starts, ends)
        if bool(data.get("starts_at")) != bool(data.get("ends_at")) and not self.errors:
            missing = "ends_at" if data.get("starts_at") else "starts_at"
            self.add_error(
                missing,
                sentence(f"{self.fields[missing].label} is empty, but the other end is given.", "Enter both or none."),
            )
        data["starts_at"], data["ends_at"] = starts, ends
        return data

    def _check_length(self, starts: datetime, ends: datetime) -> None:
        said, after = self.cleaned_data["ends_at"], self.cleaned_data["starts_at"]
        if ends <= starts:
            words = f"End “{said}” is not after the start “{after}”."
            self.add_error(
                "ends_at", sentence(words, "Give an end after it; past midnight it has the next day's date.")
            )
        elif ends - starts > calendar.LONGEST:
            words = f"End “{said}” is more than a year after the start “{after}”."
            self.add_error("ends_at", sentence(words, "Give an end within a year; it can be moved later."))

    def _moment(self, side: str) -> datetime | None:
        name = f"{side}_at"
        text = self.cleaned_data.get(name)
        if not text:
            return None
        try:
            local = calendar.parse_local(text)
            calendar.check_day(local.date(), timezone.localdate())
            which = self.cleaned_data.get(f"{side}_which") or ""
            return calendar.resolve(local, self.cleaned_data["time_zone"], which)
        except Problem as problem:
            if problem.code == "calendar.twice":
                self.fields[f"{side}_which"].widget = forms.Select(choices=WHICH, attrs={"class": "input"})
            label = self.fields[name].label
            self.add_error(name, sentence(f"{label}: {problem.text}", problem.act))
            return None

    def window(self) -> calendar.Window | None:
        data = self.cleaned_data
        if not data.get("starts_at") or not data.get("ends_at"):
            return None
        return calendar.Window(data["starts_at"], data["ends_at"], data["time_zone"])

    def row_values(self) -> dict[str, Any]:
        return self.values("starts_which", "ends_which")

    def remarks(self) -> list[str]:
        """What a person should know about the window just saved, none of it a reason to refuse it."""
        window = self.window()
        if window is None:
            return []
        said = [calendar.dst_words(window)]
        if window.ends <= timezone.now():
            said.append("This window is over already.")
        elif window.length.total_seconds() > LONG_WINDOW_HOURS * 3600:
            said.append(f"This window lasts {calendar.length_words(window.length)}: check the dates.")
        return [text for text in said if text]


class WaveForm(RangeForm):
    name = forms.CharField(label="Name", max_length=100, help_text="Such as Shop, first night.")
    number = forms.IntegerField(label="Number", min_value=1, max_value=32767, help_text="Waves are listed by it.")
    starts_at = local_field("Window starts", required=False)
    starts_which = which_field()
    ends_at = local_field("Window ends", required=False)
    ends_which = which_field()
    time_zone = ZoneField()
    sections_of = (
        (
            "Window",
            "The window limits the outage, not the copying: services are stopped and nothing after that starts "
            "outside it. Without a window, the go alone decides.",
            ("starts_at", "starts_which", "ends_at", "ends_which", "time_zone"),
        ),
    )
    marked = ("name", "number", "starts_at", "ends_at", "time_zone")

    def __init__(self, *args: Any, project: Project, row: Wave | None = None, **kwargs: Any) -> None:
        last = project.waves.order_by("-number").first()
        number = row.number if row else (last.number + 1 if last else 1)
        super().__init__(*args, project=project, row=row, initial={"number": number}, **kwargs)

    def clean_number(self) -> int:
        number = int(self.cleaned_data["number"])
        others = self.project.waves.exclude(pk=row_key(self.row))
        other = others.filter(number=number).first()
        if other:
            raise sentence(f"Number “{number}” is {other}.", f"Take another one, such as {_free(others)}.")
        return number


def _free(waves: Any) -> int:
    used = set(waves.values_list("number", flat=True))
    return next(number for number in range(1, len(used) + 2) if number not in used)


class FreezeForm(RangeForm):
    name = forms.CharField(label="Name", max_length=100, help_text="Such as End of quarter.")
    starts_at = local_field("Starts", required=True)
    starts_which = which_field()
    ends_at = local_field("Ends", required=True)
    ends_which = which_field()
    time_zone = ZoneField()
    sections_of = (
        (
            "No cutover starts in this time",
            "Copying goes on.",
            ("starts_at", "starts_which", "ends_at", "ends_which", "time_zone"),
        ),
    )
    marked = ("name", "starts_at", "ends_at", "time_zone")
