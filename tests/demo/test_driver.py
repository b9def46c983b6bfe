"""A person at a browser, against a small real server: session, CSRF token, errors, grey buttons, waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from migrationhub.lab.demo.driver import Grey, Person, Refused
from migrationhub.lab.demo.forms import PageProblem

FORM = (
    '<main id="main">{said}<form method="post" action="{action}"><input type="hidden" name="csrfmiddlewaretoken" '
    'value="tok"><label for="n">Name</label><input id="n" name="name"><button type="submit">Save</button></form></main>'
)


class Site(BaseHTTPRequestHandler):
    looks = 0

    def do_GET(self) -> None:
        Site.looks += 1
        if self.path == "/broken/":
            self.answer(500, "<main id=main><h1>Something broke</h1></main>")
        elif self.path == "/away/":
            self.answer(200, FORM.format(said="", action="http://192.0.2.1/steal/"))
        elif self.path == "/grey/":
            self.answer(
                200,
                '<main id=main><button aria-disabled="true" aria-describedby="w">Give the go</button>'
                "<p id=w>UAT is open.</p></main>",
            )
        else:
            self.answer(200, FORM.format(said=f"<p>{self.path} look {Site.looks}</p>", action="/save/"))

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if body.get("csrfmiddlewaretoken") != ["tok"] or "s=1" not in self.headers.get("Cookie", ""):
            self.answer(403, "<main id=main>CSRF verification failed.</main>")
        elif body.get("name") == ["bad"]:
            self.answer(200, FORM.format(said='<p class="field-error">Name “bad” is taken.</p>', action="/save/"))
        else:
            self.send_response(303)
            self.send_header("Location", "/saved/")
            self.end_headers()

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Set-Cookie", "s=1; Path=/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def person() -> Iterator[Person]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Person(f"http://127.0.0.1:{server.server_port}", "lead", "secret")
    server.shutdown()
    server.server_close()


def test_a_form_is_filled_and_sent_with_session_and_token(person: Person) -> None:
    assert person.fill("/new/", name="good").path == "/saved/"


def test_the_page_s_own_errors_are_told(person: Person) -> None:
    with pytest.raises(Refused, match="lead, /save/: Name “bad” is taken"):
        person.fill("/new/", name="bad")


def test_a_page_that_fails_is_told_with_its_status(person: Person) -> None:
    with pytest.raises(PageProblem, match="GET /broken/ was answered with 500: Something broke"):
        person.get("/broken/")


def test_a_grey_button_tells_the_reason_on_the_page(person: Person) -> None:
    with pytest.raises(Grey, match="“Give the go” on /grey/ is grey: UAT is open"):
        person.press(person.get("/grey/"), "Give the go")


def test_a_button_that_is_not_there_is_told_with_those_that_are(person: Person) -> None:
    with pytest.raises(PageProblem, match="has no button “Delete”; it has Save"):
        person.press(person.get("/new/"), "Delete")


def test_a_form_for_another_site_is_not_sent(person: Person) -> None:
    with pytest.raises(PageProblem, match=r"http://192\.0\.2\.1/steal/ is not at"):
        person.fill("/away/", name="x")


def test_waiting_ends_when_the_page_shows_it_and_else_with_what_it_shows(person: Person) -> None:
    first = Site.looks
    page = person.wait("/wait/", lambda page: f"look {first + 3}" in page.text, "the third look", every=0.01)
    assert "/wait/" in page.text
    with pytest.raises(PageProblem, match=r"waited 0 s for nothing on /wait/\. The page says: /wait/ look"):
        person.wait("/wait/", lambda page: False, "nothing", seconds=0, every=0.01)


def test_a_password_is_in_no_repr(person: Person) -> None:
    assert "secret" not in repr(person)
