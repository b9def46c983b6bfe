"""Several lists in one query: a page that draws twenty kinds of rows must not ask twenty times.

Each queryset becomes one branch of a UNION ALL that gives its rows as JSON; the rows come back as model instances,
with the same types as from the queryset itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from django.db import models
from django.db.models import Expression, F, QuerySet, TextField, Value
from django.db.models.functions import Cast, JSONArray
from django.db.models.sql import Query

Convert = Callable[[Any], Any]


def fetch(**lists: QuerySet[Any]) -> dict[str, list[Any]]:
    """Rows of each queryset by its name, in no order: one query for all of them.

    `only()` and `defer()` are kept; ordering and `select_related()` are not, and slices are refused by the database
    (filter by a sliced subquery of keys instead). Raises TypeError for a column whose value JSON cannot carry.
    """
    fields = {name: _columns(rows) for name, rows in lists.items()}
    branches = [_branch(name, rows, fields[name]) for name, rows in lists.items()]
    found: dict[str, list[Any]] = {name: [] for name in lists}
    makers = {name: _maker(rows, fields[name]) for name, rows in lists.items()}
    for name, row in branches[0].union(*branches[1:], all=True).order_by():
        found[name].append(makers[name](row))
    return found


def prefilled(instance: models.Model, relation: str, rows: Iterable[Any]) -> None:
    """Give a row's reverse relation what was fetched with others, as `prefetch_related` would."""
    manager = getattr(instance, relation)
    filled = manager.get_queryset()
    filled._result_cache = list(rows)
    filled._prefetch_done = True
    cache = instance.__dict__.setdefault("_prefetched_objects_cache", {})
    cache[relation] = filled


def _columns(rows: QuerySet[Any]) -> list[models.Field[Any, Any]]:
    mask = rows.query.get_select_mask()
    columns = list(rows.model._meta.concrete_fields)
    return [field for field in columns if field in mask] if mask else columns


def _branch(name: str, rows: QuerySet[Any], fields: list[models.Field[Any, Any]]) -> QuerySet[Any, Any]:
    plain = rows.select_related(None).defer(None).order_by()
    columns = tuple(field.attname for field in fields)
    made: QuerySet[Any, Any] = plain.values_list(Value(name), _Row(rows.model, columns, rows.db))
    return made


class _Row(Expression):
    """The columns of a queryset's own table as one JSON array; its SQL is made once for each list of columns.

    As an expression of two hundred columns that are resolved one by one it took longer than all else on a page.
    """

    def __init__(self, model: type[models.Model], columns: tuple[str, ...], database: str) -> None:
        super().__init__(output_field=models.JSONField())
        self.sql = _array(model, columns, database)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[str | int, ...]]:
        return self.sql, ()


@cache
def _array(model: type[models.Model], columns: tuple[str, ...], database: str) -> str:
    # JSON inside JSON is text on one database and an object on the other: text on both.
    parts = [
        Cast(F(name), TextField()) if isinstance(model._meta.get_field(name), models.JSONField) else F(name)
        for name in columns
    ]
    query = Query(model)
    query.get_initial_alias()
    sql, params = query.get_compiler(database).compile(JSONArray(*parts).resolve_expression(query))
    assert not params  # columns have none
    return str(sql)


def _maker(rows: QuerySet[Any], fields: list[models.Field[Any, Any]]) -> Callable[[list[Any]], Any]:
    names = [field.attname for field in fields]
    converts = [(at, convert) for at, field in enumerate(fields) if (convert := _converter(field))]
    model, database = rows.model, rows.db

    def make(values: list[Any]) -> Any:
        for at, convert in converts:
            if values[at] is not None:
                values[at] = convert(values[at])
        return model.from_db(database, names, values)

    return make


def _converter(field: models.Field[Any, Any]) -> Convert | None:
    """How a value comes back from JSON; None: as it is."""
    if isinstance(field, models.JSONField):
        return json.loads
    if isinstance(field, models.DateTimeField):
        return _moment
    if isinstance(field, models.BooleanField):
        return bool  # SQLite says 0 and 1
    if isinstance(field, models.FloatField):
        return float  # PostgreSQL says 0 for 0.0
    plain = (models.CharField, models.TextField, models.IntegerField, models.ForeignKey)
    if isinstance(field, plain) and not hasattr(field, "from_db_value"):
        return None
    raise TypeError(f"{field}: its value cannot be fetched together with others; leave it out with defer().")


def _moment(text: str) -> datetime:
    """PostgreSQL writes the offset, SQLite keeps UTC without one."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
