"""Tests that commit empty the tables afterwards; the audit trail's triggers are lifted for that, and only for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from migrationhub.audit import triggers


@pytest.fixture(scope="session", autouse=True)
def emptied_between_tests() -> Iterator[None]:
    operations, vendor = type(connection.ops), connection.vendor
    flush = operations.sql_flush

    def sql_flush(self: Any, *args: Any, **kwargs: Any) -> list[str]:
        return [*triggers.DROP[vendor], *flush(self, *args, **kwargs), *triggers.MAKE[vendor]]

    operations.sql_flush = sql_flush
    yield
    operations.sql_flush = flush
