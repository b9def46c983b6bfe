"""A person at a browser without JavaScript: logs in, reads pages, fills in their forms, presses their buttons.

Nothing is known of addresses but where to begin: forms and links are taken from the pages, with their CSRF token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import requests

from migrationhub.lab.demo.dom import Node, parse
from migrationhub.lab.demo.forms import Button, Form, PageProblem, Value, forms_of, grey_buttons

TIMEOUT = 60  # seconds for one page


class Refused(PageProblem):
    """The page came back with errors; `text` has all of them."""


class Grey(PageProblem):
    """The button is there and cannot be pressed now; `text` has the reason on the page."""


class Page:
    """One page as it was answered."""

    def __init__(self, url: str, status: int, html: str) -> None:
        self.url, self.status, self.html = url, status, html
        self.tree = parse(html)

    @property
    def path(self) -> str:
        parts = urlsplit(self.url)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    @property
    def text(self) -> str:
        return self.main.text

    @property
    def main(self) -> Node:
        return self.tree.by_id("main") or self.tree

    def part(self, wanted: str) -> Node:
        """A region by its id."""
        found = self.tree.by_id(wanted)
        if found is None:
            raise PageProblem(f"The page {self.path} has no part “{wanted}”.", code="demo.page")
        return found

    @property
    def errors(self) -> list[str]:
        """What the page says went wrong: field errors and error messages, each once."""
        nodes = [*self.main.by_class("field-error"), *self.main.by_class("errorlist")]
        nodes += [node for node in self.main.by_class("callout") if node.get("role") == "alert"]
        return list(dict.fromkeys(node.text for node in nodes if node.text))

    def forms(self, within: Node | None = None) -> list[Form]:
        return forms_of(within or self.tree, self.path)

    def form(self, *fields: str) -> Form:
        """The one form of the page's content that has all these fields."""
        found = [form for form in self.forms(self.main) if set(fields) <= form.fields.keys()]
        if len(found) != 1:
            raise PageProblem(
                f"The page {self.path} has {len(found)} forms with {', '.join(fields) or 'any fields'}; expected one.",
                code="demo.form",
            )
        return found[0]

    def link(self, pattern: str) -> str:
        """The address of the first link that matches, as a path."""
        for node in self.tree.all("a"):
            if re.search(pattern, node.get("href")):
                return node.get("href")
        raise PageProblem(f"The page {self.path} has no link to {pattern}.", code="demo.link")


class Person:
    """One account at one browser."""

    def __init__(self, base: str, name: str, password: str) -> None:
        self.base, self.name = base, name
        self._password = password
        self.session = requests.Session()
        self.session.trust_env = False

    def __repr__(self) -> str:
        return f"Person({self.name!r})"

    def log_in(self) -> Page:
        page = self.get("/")
        return self.submit(page.form("login", "password").fill(login=self.name, password=self._password))

    def get(self, path: str, **query: str) -> Page:
        return self._answer(self._send("GET", path, params=query))

    def submit(self, form: Form, button: Button | None = None) -> Page:
        """Send a form as a browser would; raises `Refused` with the page's own words."""
        data = form.data(button or (form.buttons[0] if form.buttons else None))
        if form.method == "get":
            page = self._answer(self._send("GET", form.action, params=data))
        else:
            page = self._answer(self._send("POST", form.action, data=data))
        if page.errors:
            raise Refused(f"{self.name}, {form.action}: {' '.join(page.errors)}", code="demo.refused")
        return page

    def fill(self, path: str, **values: Value) -> Page:
        """Open a page, fill in its one form that has these fields, send it."""
        page = self.get(path)
        return self.submit(page.form(*values).fill(**values))

    def press(self, page: Page, label: str, *, within: Node | None = None, **values: Value) -> Page:
        """Press the button with this label (a regular expression over all of it), with `values` in its form."""
        part = within or page.main
        found = [
            (form, button)
            for form in page.forms(part)
            for button in form.buttons
            if re.fullmatch(label, button.label) and values.keys() <= form.fields.keys()
        ]
        if found:
            form, button = found[0]
            return self.submit(form.fill(**values), button)
        for grey in grey_buttons(part):
            if re.fullmatch(label, grey.label):
                raise Grey(f"{self.name}: “{grey.label}” on {page.path} is grey: {grey.why}", code="demo.grey")
        labels = [button.label for form in page.forms(part) for button in form.buttons]
        raise PageProblem(
            f"{self.name}: the page {page.path} has no button “{label}”; it has {', '.join(labels) or 'none'}.",
            code="demo.button",
        )

    def wait(
        self, path: str, until: Callable[[Page], bool], what: str, *, seconds: float = 120, every: float = 1.0
    ) -> Page:
        """Load a page again and again until it shows what is waited for; a problem names what, and what it shows."""
        deadline = time.monotonic() + seconds
        while True:
            page = self.get(path)
            if until(page):
                return page
            if time.monotonic() > deadline:
                raise PageProblem(
                    f"{self.name} waited {seconds:.0f} s for {what} on {path}. The page says: {page.text[:1500]}",
                    "Look at the page, and at the log of web, qcluster and controller.",
                    code="demo.wait",
                )
            time.sleep(every)

    def _send(self, method: str, path: str, **more: object) -> requests.Response:
        url = urljoin(self.base + "/", path)
        # Forms may be sent to the hub alone: they carry a session and secrets.
        if urlsplit(url).netloc != urlsplit(self.base).netloc:
            raise PageProblem(f"{url} is not at {self.base}.", code="demo.foreign")
        headers = {"Referer": self.base + "/"}
        return self.session.request(method, url, headers=headers, timeout=TIMEOUT, **more)  # type: ignore[arg-type]

    def _answer(self, response: requests.Response) -> Page:
        page = Page(response.url, response.status_code, response.text)
        if response.status_code != 200:
            words = page.text[:600] if "html" in response.headers.get("Content-Type", "") else response.text[:600]
            raise PageProblem(
                f"{self.name}: {response.request.method} {page.path} was answered with {response.status_code}: {words}",
                "Look at the log of web.",
                code="demo.status",
            )
        return page
