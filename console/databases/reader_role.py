"""The console's database role: it reads the listed tables, pauses services and parks events."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from common.kombu_topology import DATABASES
from console.databases.change import Change
from console.settings import READER
from eventbus.consumer.operator_pause import operator_pause
from eventbus.consumer.parked_events import parked_events

#: The tables that the role reads, by the service's name.
TABLES = {service.name: service.readable_tables for service in DATABASES}

#: The permissions of the role on a table. It inserts and deletes the row of an operator's pause,
#: and the rows of parked events that are restored and discarded.
_READ, _CHANGE = ("SELECT",), ("SELECT", "INSERT", "DELETE")
_BY_NAME = {operator_pause.name: _CHANGE, parked_events.name: (*_CHANGE, "UPDATE")}


def rights(admin: Connection, service: str, database: str) -> Iterator[Change]:
    """Yield the changes that let the role read a service's tables, and pause the service.

    `admin` is an administrator's connection to that database, which must be migrated.
    """
    tables = TABLES.get(service, ())
    if not tables:
        return
    may = text("SELECT has_database_privilege(:role, :database, 'CONNECT')")
    if not admin.scalar(may, {"role": READER, "database": database}):
        yield Change(
            text=f"database {database}: access granted to role {READER}",
            statement=f"GRANT CONNECT ON DATABASE {database} TO {READER}",
        )
    may = text("SELECT has_table_privilege(:role, :table, :right)")
    for table in tables:
        for right in _BY_NAME.get(table, _READ):
            if not admin.scalar(may, {"role": READER, "table": table, "right": right}):
                yield Change(
                    text=f"database {database}: {right} on {table} granted to role {READER}",
                    statement=f"GRANT {right} ON {table} TO {READER}",
                )
