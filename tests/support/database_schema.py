"""The tables of the databases as the models define them, in the words of docs/schema.md."""

from collections.abc import Iterable, Iterator
from importlib import import_module

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

import eventbus.catch_up.overflow
import eventbus.consumer.inbox
import eventbus.consumer.operator_pause
import eventbus.consumer.parked_events
import eventbus.consumer.poison
import eventbus.outbox.table  # noqa: F401 - each import adds its tables to the metadata
from eventbus.database import db
from eventbus.topology.service import Service

#: The modules that define the tables of a service, by package; by default `models`.
_MODELS = {"order_app": "order_app.storage.models", "console": "console.access.models"}

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


def own_tables(service: Service) -> list[Table]:
    """Return the tables that a service's own revisions create, sorted by name."""
    models = import_module(_MODELS.get(service.package, f"{service.package}.models"))
    return _sorted(models.Base.metadata.tables.values())


def library_tables() -> list[Table]:
    """Return the tables that the library's revisions create, sorted by name."""
    return _sorted(db.metadata.tables.values())


def columns(table: Table) -> list[tuple[str, str]]:
    """Return the name and the type of each column, with its keys and whether it may be null."""
    return [(column.name, ", ".join(_words(column))) for column in table.columns]


def _words(column: Column[object]) -> Iterator[str]:
    kind = str(column.type.compile(_DIALECT)).lower()
    yield kind.replace("timestamp with time zone", "timestamptz")
    if column.primary_key:
        yield "primary key"
    if column.nullable:
        yield "null"
    yield from (f"references `{key.target_fullname}`" for key in column.foreign_keys)


def _sorted(tables: Iterable[Table]) -> list[Table]:
    return sorted(tables, key=lambda table: str(table.name))
