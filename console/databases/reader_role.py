"""The console's database role, which can only read the listed tables."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from common.kombu_topology import DATABASES
from console.databases.change import Change
from console.settings import READER

#: By the service's name.
TABLES = {service.name: service.readable_tables for service in DATABASES}


def rights(admin: Connection, service: str, database: str) -> Iterator[Change]:
    """Yield the changes that let the role read a service's tables.

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
    may = text("SELECT has_table_privilege(:role, :table, 'SELECT')")
    for table in tables:
        if not admin.scalar(may, {"role": READER, "table": table}):
            yield Change(
                text=f"database {database}: SELECT on {table} granted to role {READER}",
                statement=f"GRANT SELECT ON {table} TO {READER}",
            )
