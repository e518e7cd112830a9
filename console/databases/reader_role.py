"""The console's database role: the tables that it can read, and nothing else."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from common.kombu_topology import ANALYTICS, FRAUD, INVENTORY, NOTIFICATION, ORDER, SPAN_STORE
from console.databases.change import Change
from console.settings import READER

#: By the service's name. API keys are not included, not even their hashes, nor are mails.
TABLES = {
    ORDER.name: ("orders", "order_lines", "outbox", "inbox", "relay_state"),
    INVENTORY.name: (
        "stock",
        "stock_entries",
        "stock_movements",
        "reservations",
        "reservation_lines",
        "outbox",
        "relay_state",
    ),
    FRAUD.name: ("outbox", "relay_state", "overflow"),
    NOTIFICATION.name: ("overflow",),
    SPAN_STORE.name: ("spans",),
    ANALYTICS.name: ("minutes", "sku_minutes", "stream_position", "skipped_events"),
}


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
