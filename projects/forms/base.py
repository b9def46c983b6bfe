"""What every form here does: sentences for errors, sections for the page, and a mark of what was seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models
from django.forms.boundfield import BoundField

from migrationhub.lib.fields import EncryptedTextField, as_stored
from migrationhub.lib.findings import Problem
from migrationhub.lib.reading import whole

SAID = "said"  # the code of errors that are whole sentences already
LONGEST = 4000  # characters of a text of several lines, where its field names no limit of its own
LONGEST_FILE = 64_000  # of what is pasted from a file: keys, certificates, lists of servers


class SecretTextarea(forms.Textarea):
    """A text of several lines that goes in and never comes back."""

    def format_value(self, value: Any) -> str:
        return ""


class Lines(forms.CharField):
    """One entry per line; empty lines fall away. Cleans to a list of strings."""

    widget = forms.Textarea(attrs={"rows": 4, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value

    def clean(self, value: Any) -> list[str]:
        text = super().clean(value)
        return [line.strip() for line in str(text).splitlines() if line.strip()]


class Ticks(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Rows to tick. A key that no row can have is a wrong choice, where Django would ask the database for it."""

    widget = forms.CheckboxSelectMultiple

    def clean(self, value: Any) -> Any:
        for key in value if isinstance(value, list | tuple) else ():
            if whole(str(key)) is None:
                raise ValidationError(self.error_messages["invalid_choice"], "invalid_choice", {"value": str(key)[:40]})
        return super().clean(value)


@dataclass(frozen=True)
class Section:
    title: str
    note: str
    fields: list[BoundField]
    folded: bool = False  # behind its title, until one of its fields says something

    @property
    def is_open(self) -> bool:
        return any(field.errors or field.value() not in (None, "", [], False) for field in self.fields)


def cap(field: forms.Field) -> None:
    """No text is without end: it would be kept in rows and in the audit trail, and drawn on pages."""
    if isinstance(field, forms.CharField) and field.max_length is None:
        pasted = isinstance(field.widget, SecretTextarea) or field.widget.attrs.get("spellcheck") == "false"
        field.max_length = LONGEST_FILE if pasted else LONGEST
        field.validators.append(MaxLengthValidator(field.max_length))
        field.widget.attrs.setdefault("maxlength", str(field.max_length))


def keep_to_one_line(field: forms.Field) -> None:
    """No page sends a line break from a field of one line; a name with one would tear lists, logs and mails apart."""
    if isinstance(field, forms.CharField) and not isinstance(field.widget, forms.Textarea):
        field.validators.append(one_line)


def one_line(value: str) -> None:
    if len(str(value).splitlines()) > 1:
        raise ValidationError("It has more than one line.", code="lines")


def sentence(*parts: str) -> ValidationError:
    """An error that is a whole sentence: what is wrong, what to do."""
    return ValidationError(" ".join(filter(None, parts)), code=SAID)


class SetupForm(forms.Form):
    """`expected` says by field what is expected, for Django's own short messages.

    `seen` is a mark of the stored row as it was when the page was drawn: where somebody changed it in between,
    the form says so and nothing is overwritten unseen.
    """

    sections_of: ClassVar[tuple[tuple[str, str, tuple[str, ...]], ...]] = ()
    folded: ClassVar[tuple[str, ...]] = ()  # titles of the sections that few need
    expected: ClassVar[Mapping[str, str]] = {}
    marked: ClassVar[tuple[str, ...]] = ()  # fields of the row, links to many rows too, that `seen` is taken over

    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, row: models.Model | None = None, **kwargs: Any) -> None:
        self.row = row
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            cap(field)
            keep_to_one_line(field)
            widget = field.widget
            if not isinstance(widget, forms.CheckboxInput | forms.CheckboxSelectMultiple | forms.HiddenInput):
                widget.attrs.setdefault("class", "input")
            if isinstance(widget, forms.PasswordInput | SecretTextarea):
                widget.attrs.setdefault("autocomplete", "off" if name == "secret" else "new-password")
        # What was typed so far brings the mark of the page that it was typed into.
        self.initial.setdefault("seen", self.mark())

    def mark(self) -> str:
        """A digest of the stored row; empty for a new one."""
        if self.row is None or self.row.pk is None or not self.marked:
            return ""
        values = [str(_stored(self.row, name)) for name in self.marked]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

    def clean_seen(self) -> str:
        seen, now = str(self.cleaned_data.get("seen") or ""), self.mark()
        if seen and now and seen != now:
            # The next press is about what is shown now.
            self.data = _with(self.data, self.add_prefix("seen"), now)
            raise sentence(
                "Somebody changed this while you were typing; nothing was saved.",
                "What you typed is still here: compare it with the page in another tab, then save again to overwrite.",
            )
        return seen

    def add_error(self, field: str | None, error: Any) -> None:
        """Django's short messages become sentences that name the field and the value."""
        if field == "seen":
            field = None
        if field and field in self.fields and isinstance(error, ValidationError) and not hasattr(error, "error_dict"):
            error = ValidationError([self._said(field, each) for each in error.error_list])
        super().add_error(field, error)

    def _said(self, name: str, error: ValidationError) -> ValidationError:
        if error.code == SAID:
            return error
        field = self.fields[name]
        expected = self.expected.get(name) or str(field.help_text) or "Enter a value."
        if error.code == "required":
            return sentence(f"{field.label} is empty.", expected)
        value = field.widget.value_from_datadict(self.data, self.files, self.add_prefix(name))
        shown = "" if isinstance(field.widget, forms.PasswordInput | SecretTextarea) else f" “{_short(value)}”"
        text = " ".join(error.messages)
        return sentence(f"{field.label}{shown}: {text}", expected if expected not in text else "")

    def refuse(self, problem: Problem, field: str | None = None) -> None:
        """What a verb said, on the form: nothing that was typed is lost."""
        self.add_error(field, sentence(problem.text, problem.act))

    @property
    def has_secrets(self) -> bool:
        return any(isinstance(field.widget, forms.PasswordInput | SecretTextarea) for field in self.fields.values())

    def sections(self) -> Iterator[Section]:
        """The fields in groups, in the page's order; what is in no group comes first."""
        grouped = {name for _, _, names in self.sections_of for name in names}
        rest = [self[name] for name in self.fields if name not in grouped and not self[name].is_hidden]
        if rest:
            yield Section("", "", rest)
        for title, note, names in self.sections_of:
            fields = [self[name] for name in names if name in self.fields and not self[name].is_hidden]
            if fields:
                yield Section(title, note, fields, title in self.folded)

    def values(self, *but: str) -> dict[str, Any]:
        """What was cleaned, without the mark and the fields of the page alone."""
        return {name: value for name, value in self.cleaned_data.items() if name not in ("seen", *but)}


def _stored(row: models.Model, name: str) -> Any:
    """Other rows by their keys, as their names may change without this one; secrets as they are stored, as a page tells
    nothing of them, not even a digest."""
    field = row._meta.get_field(name)
    if isinstance(field, EncryptedTextField):
        return as_stored(row, name)
    value = getattr(row, name)
    return sorted(value.values_list("pk", flat=True)) if field.many_to_many else value


def _with(data: Any, name: str, value: str) -> Any:
    """Submitted data with one value replaced; a QueryDict stays one."""
    changed = data.copy()
    changed[name] = value
    return changed


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value if value is not None else "")
    return text if len(text) <= 80 else text[:77] + "…"


def row_initial(row: models.Model | None, names: tuple[str, ...]) -> dict[str, Any]:
    """A stored row as a form's first values: keys of other rows, everything else as it is."""
    if row is None or row.pk is None:
        return {}
    found = {}
    for name in names:
        value = getattr(row, name)
        found[name] = value.pk if isinstance(value, models.Model) else value
    return found


def row_key(row: models.Model | None) -> int:
    """The key of a stored row; 0, which no row has, for none."""
    return int(row.pk) if row is not None and row.pk else 0
