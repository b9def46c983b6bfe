"""Debian's chromium, one for all browser tests, and pages that complain about everything the console says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.factories import make_controller

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright runs an event loop in this thread; the tests' own queries are not part of it.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield chromium
        chromium.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def faults(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is now, one line for each place. Needs `bypass_csp=True`."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    options: dict[str, Any] = {"runOnly": RULES, "resultTypes": ["violations"]}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{page.url}: {each['id']}: {node['html'][:160]}: {node['failureSummary'].splitlines()[-1].strip()}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def too_wide(page: Page) -> list[str]:
    """What sticks out sideways."""
    wide = page.evaluate(
        """() => document.documentElement.scrollWidth <= window.innerWidth ? [] :
        [...document.querySelectorAll("main *, header *, footer *")]
          .filter((each) => each.getBoundingClientRect().right > window.innerWidth + 1)
          .map((each) => each.outerHTML.slice(0, 120))"""
    )
    return [f"{page.url} sticks out: {each}" for each in wide[-3:]]


def shoot(page: Page, name: str) -> None:
    """A picture of the whole page, where somebody asked for pictures: MIGRATIONHUB_SHOTS names a directory."""
    directory = os.environ.get("MIGRATIONHUB_SHOTS")
    if directory:
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


@pytest.fixture
def visit(browser: Browser, live_server) -> Iterator[Callable[..., Page]]:
    """`visit(user, path, **context)`: a page seen by this person; fails if the console had an error."""
    contexts, complaints = [], []
    make_controller()

    def heard(message: ConsoleMessage) -> None:
        # Chromium drops what is under way when an interface comes or goes on the machine, as the lab's do; it is asked
        # again with the next poll.
        if message.type == "error" and "net::ERR_NETWORK_CHANGED" not in message.text:
            complaints.append(message.text)

    def go(user: User, path: str, **options: object) -> Page:
        client = Client()
        client.force_login(user, "django.contrib.auth.backends.ModelBackend")
        cookie = client.cookies[settings.SESSION_COOKIE_NAME]
        context = browser.new_context(
            **{"base_url": live_server.url, "viewport": {"width": 1440, "height": 900}, **options}
        )
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie.value, "url": live_server.url}])
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    go.complaints = complaints
    yield go
    for context in contexts:
        context.close()
    assert not complaints
