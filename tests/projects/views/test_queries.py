"""No page asks the database more than twelve times, and none asks more often because there is more to show."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.addresses import pages
from tests.scenes import Scene, make_scene

MOST = 12  # session and user among them
pytestmark = [pytest.mark.whole, pytest.mark.django_db]


def queries_of(scene: Scene, who: User) -> dict[str, list[str]]:
    client = Client()
    client.force_login(who, "django.contrib.auth.backends.ModelBackend")
    client.get("/")  # notes that the session is in use, once in five minutes
    found = {}
    for name, address in pages(scene).items():
        with CaptureQueriesContext(connection) as queries:
            response = client.get(address)
        if response.status_code == 405:
            continue  # a button's address
        assert response.status_code in (200, 302, 403), f"{name}: {response.status_code}"
        if response.status_code == 200:
            found[name] = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    return found


def tables(queries: list[str]) -> Counter[str]:
    """How often each table was asked."""
    return Counter((re.findall(r'FROM "(\w+)"', sql) or ["?"])[0] for sql in queries)


def words(name: str, queries: list[str]) -> str:
    return f"{name}: {len(queries)} = " + ", ".join(f"{table} {n}" for table, n in tables(queries).items())


def grew(few: list[str], many: list[str]) -> bool:
    """A question that comes up with one server more is asked once for all of them."""
    before = tables(few)
    return any(number > max(1, before[table]) for table, number in tables(many).items())


def test_no_page_needs_more_than_twelve_queries_whatever_its_size() -> None:
    small, large = make_scene(1, "Small"), make_scene(30, "Large")
    queries_of(small, small.lead)  # what is asked once in the life of a process
    for who in ("lead", "owner", "manager"):
        few, many = queries_of(small, getattr(small, who)), queries_of(large, getattr(large, who))
        assert set(few) == set(many)
        assert len(few) > (3 if who == "owner" else 15)
        too_many = [words(name, queries) for name, queries in many.items() if len(queries) > MOST]
        assert not too_many, f"{who}\n" + "\n".join(too_many)
        grown = [words(name, many[name]) for name in few if grew(few[name], many[name])]
        assert not grown, f"{who}\n" + "\n".join(grown)
