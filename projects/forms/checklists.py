"""One line of a checklist template."""

from __future__ import annotations

from typing import Any

from django import forms

from projects.models import Holds, ItemRole, TemplateItem
from projects.steps import MODULES

from .base import SetupForm, row_initial, sentence

BY_A_PERSON = "A person ticks it"


class ItemForm(SetupForm):
    title = forms.CharField(
        label="What is to be done", max_length=200, help_text="One line, such as “Backup is set up”."
    )
    instruction = forms.CharField(
        label="Instruction",
        required=False,
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="How, and how one sees that it is done. Markdown: lists, **bold**, `code`, [links](https://…).",
    )
    role = forms.ChoiceField(label="Who answers it", choices=ItemRole.choices, initial=ItemRole.OPERATOR)
    holds = forms.ChoiceField(
        label="What it holds while it is open",
        choices=Holds.choices,
        initial=Holds.END,
        help_text="Counts for required items only.",
    )
    required = forms.BooleanField(label="Required: the step is held while it is open", required=False, initial=True)
    evidence = forms.BooleanField(
        label="Evidence is needed: a note, a link or a file", required=False, help_text="Without it nobody can tick it."
    )
    operation = forms.ChoiceField(
        label="Ticked by",
        required=False,
        help_text="What our own work proves ticks itself when that work ends, and links to it.",
    )
    expected = {"title": "Say in one line what is to be done.", "instruction": "Keep it under 5000 characters."}
    FIELDS = ("title", "instruction", "role", "holds", "required", "evidence", "operation")

    def __init__(self, *args: Any, kind: str, row: TemplateItem | None = None, **kwargs: Any) -> None:
        super().__init__(*args, row=row, initial=row_initial(row, self.FIELDS), **kwargs)
        field = self.fields["operation"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", BY_A_PERSON), *MODULES[kind].operations.items()]

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("operation"):
            if data.get("holds") == Holds.START:
                self.add_error("holds", sentence("What ticks itself in it cannot hold its start.", "Choose its end."))
            if data.get("evidence"):
                self.add_error("evidence", sentence("What ticks itself is its own evidence.", "Take the mark away."))
        return data
