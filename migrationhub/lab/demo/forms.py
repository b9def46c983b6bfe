"""Forms as a person sees them: fields by name, choices by their visible label, buttons by what stands on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from migrationhub.lab.demo.dom import Node
from migrationhub.lib.findings import Problem

Value = str | int | bool | Iterable[str]


class PageProblem(Problem):
    """A page does not offer what a person would need, or refused what was entered."""


@dataclass
class Option:
    value: str
    label: str
    chosen: bool


@dataclass
class Field:
    name: str
    kind: str  # text, textarea, select, checkbox, radio, hidden, …
    label: str
    value: str = ""
    options: list[Option] = field(default_factory=list)  # of select, checkbox and radio
    multiple: bool = False

    def sent(self) -> list[str]:
        return [option.value for option in self.options if option.chosen] if self.options else [self.value]

    def set(self, value: Value) -> None:
        """Enter a value: text as it is, a list as lines, choices by label, one checkbox by true or false."""
        if isinstance(value, bool):
            if len(self.options) != 1:
                raise self._wrong(f"has {len(self.options)} boxes; expected one to tick")
            self.options[0].chosen = value
        elif self.options or self.kind in ("select", "checkbox", "radio"):
            wanted = [value] if isinstance(value, str | int) else list(value)
            chosen = [self._option(str(one)) for one in wanted]
            for option in self.options:
                option.chosen = option in chosen
        else:
            self.value = str(value) if isinstance(value, str | int) else "\n".join(value)

    def _option(self, label: str) -> Option:
        """The one whose label or value is this, or else the only one whose label contains it."""
        if not label:
            for option in self.options:
                if option.value == "":
                    return option
        exact = [option for option in self.options if label in (option.label, option.value)]
        found = exact or [option for option in self.options if label.casefold() in option.label.casefold()]
        if len(found) == 1:
            return found[0]
        offered = ", ".join(f"“{option.label}”" for option in self.options) or "nothing"
        raise self._wrong(f"has {'no' if not found else 'several'} choices with “{label}”; it offers {offered}")

    def _wrong(self, words: str) -> PageProblem:
        return PageProblem(f"The field “{self.label or self.name}” ({self.name}) {words}.", code="demo.field")


@dataclass(frozen=True)
class Button:
    label: str
    name: str = ""
    value: str = ""
    enabled: bool = True
    why: str = ""  # why it is grey


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, Field]
    buttons: list[Button]
    text: str  # all that is to be read in it

    def fill(self, **values: Value) -> Form:
        for name, value in values.items():
            if name not in self.fields:
                raise PageProblem(
                    f"The form for {self.action} has no field “{name}”; it has {', '.join(self.fields) or 'none'}.",
                    code="demo.field",
                )
            self.fields[name].set(value)
        return self

    def data(self, button: Button | None = None) -> list[tuple[str, str]]:
        """What a browser would send."""
        pairs = [(each.name, value) for each in self.fields.values() for value in each.sent()]
        return [*pairs, (button.name, button.value)] if button and button.name else pairs


def forms_of(tree: Node, url: str) -> list[Form]:
    """The forms of a page or of a part of it, in order. `labels` may stand anywhere in that part."""
    labels = {node.get("for"): node.text for node in tree.all("label") if node.has("for")}
    return [_form(node, url, labels) for node in tree.all("form")]


def grey_buttons(tree: Node) -> list[Button]:
    """Buttons that cannot be pressed now; each with the reason that the page gives."""
    found = []
    for node in tree.all("button", where=_grey):
        why = tree.by_id(node.get("aria-describedby")) if node.has("aria-describedby") else None
        found.append(Button(node.text, enabled=False, why=why.text if why else ""))
    return found


def _grey(node: Node) -> bool:
    return node.get("aria-disabled") == "true" or node.has("disabled")


def _form(node: Node, url: str, labels: dict[str, str]) -> Form:
    fields: dict[str, Field] = {}
    buttons = []
    for control in node.all("input", "select", "textarea", "button"):
        kind = control.get("type", "submit" if control.tag == "button" else "text")
        if control.tag == "button" or kind == "submit":
            if kind == "submit" and not _grey(control):
                buttons.append(Button(control.text or control.get("value"), control.get("name"), control.get("value")))
            continue
        if control.has("name") and not control.has("disabled"):
            _add(fields, control, kind, labels.get(control.get("id"), "") or _label_around(node, control))
    return Form(node.get("action") or url, node.get("method", "get").lower(), fields, buttons, node.text)


def _add(fields: dict[str, Field], control: Node, kind: str, label: str) -> None:
    name = control.get("name")
    if control.tag == "select":
        options = [
            Option(one.get("value", one.text), one.text, one.has("selected"))
            for one in control.all("option", where=lambda one: not one.has("disabled"))
        ]
        multiple = control.has("multiple")
        if options and not multiple and not any(option.chosen for option in options):
            options[0].chosen = True  # as a browser does
        fields[name] = Field(name, "select", label, options=options, multiple=multiple)
    elif kind in ("checkbox", "radio"):
        known = fields.setdefault(name, Field(name, kind, label, multiple=kind == "checkbox"))
        known.options.append(Option(control.get("value", "on"), label, control.has("checked")))
    elif control.tag == "textarea":
        fields[name] = Field(name, "textarea", label, control.raw_text.removeprefix("\n"))
    else:
        fields[name] = Field(name, kind, label, control.get("value"))


def _label_around(form: Node, control: Node) -> str:
    return next((label.text for label in _labels(form) if any(node is control for node in label.walk())), "")


def _labels(form: Node) -> Iterator[Node]:
    yield from form.all("label")
