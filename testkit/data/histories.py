"""Histories: a service's database after months of use, with finished and deleted rows.

Every table has an entry here that defines its rows. A table without an entry raises
`UnknownTable`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, text

#: The ages of rows: deleted rows were older than any retention, finished rows are younger, and
#: waiting rows have just been written.
_GONE, _KEPT, _WAITING = "400 days", "2 hours", "5 seconds"


class UnknownTable(LookupError):
    """A table has no definition of its rows."""


@dataclass(frozen=True)
class History:
    """The rows of a table: SQL for each column, in terms of a row's number `n` and time `at`."""

    columns: Mapping[str, str]
    #: The columns that differ in a row that waits for the service. If it is empty, rows of this
    #: table never wait.
    waiting: Mapping[str, str] = field(default_factory=dict)


#: The definition of a table with a fixed number of rows, which remains in the state after the
#: migrations.
FIXED = History({})

_ID, _KEY = "gen_random_uuid()", "gen_random_uuid()::text"

#: Tables of every service that has them.
_COMMON = {
    "alembic_version": FIXED,
    "eventbus_version": FIXED,
    "operator_pause": FIXED,
    "overflow": FIXED,
    "relay_state": FIXED,
    "inbox": History(
        {
            "event_id": _ID,
            "type": "'order.created'",
            "source": "'order'",
            "subject": _ID,
            "attempts": "1",
            "occurred_at": "at",
            "handled_at": "at",
        }
    ),
    "outbox": History(
        {
            "event_id": _ID,
            "type": ":type",
            "subject": _ID,
            "event": "'null'",
            "created_at": "at",
            "next_attempt_at": "at",
            "sent_at": "at",
        },
        waiting={"sent_at": "NULL"},
    ),
    "parked_events": History(
        {
            "event_id": _ID,
            "source": "'order'",
            "subject": _ID,
            "sequence": "1",
            "parked_at": "at",
        }
    ),
    "suspects": History({"event_id": _ID, "begun": "1", "begun_at": "at"}),
}

_ORDER = {
    "orders": History(
        {
            "id": _ID,
            "customer_email": "'ada@example.com'",
            "currency": "'EUR'",
            "status": "'CONFIRMED'",
            "total": "100",
            "created_at": "at",
            "decided_at": "at",
            "deadline_at": "at",
            "sequence": "2",
        },
        waiting={
            "status": "'PENDING'",
            "decided_at": "NULL",
            "deadline_at": "at + interval '2 hours'",
        },
    ),
    "order_lines": History(
        {"order_id": _ID, "position": "1", "sku": "'TEA'", "quantity": "1", "unit_price": "100"}
    ),
    "idempotency_keys": History(
        {"api_key": "'key'", "key": _KEY, "fingerprint": "''", "order_id": _ID, "created_at": "at"}
    ),
    "api_keys": History(
        {"prefix": _KEY, "name": "'tests'", "hash": "''", "scopes": "'{orders:read}'"}
    ),
    "cancellations": History(
        {"order_id": _ID, "reason": "''", "cancelled_by": "'tests'", "cancelled_at": "at"}
    ),
    "shipments": History({"order_id": _ID, "shipped_by": "'tests'", "shipped_at": "at"}),
}

_INVENTORY = {
    "stock": History({"sku": _KEY, "on_hand": "10", "updated_at": "at"}),
    "reservations": History(
        {"order_id": _ID, "status": "'RESERVED'", "created_at": "at", "updated_at": "at"}
    ),
    "reservation_lines": History({"order_id": _ID, "sku": "'TEA'", "quantity": "1"}),
    "stock_entries": History(
        {
            "sku": _KEY,
            "kind": "'receive'",
            "on_hand": "10",
            "reason": "''",
            "reference": _KEY,
            "entered_by": "'tests'",
            "entered_at": "at",
        }
    ),
    "stock_imports": History({"reference": _KEY, "digest": "''", "updated_at": "at"}),
}

_NOTIFICATION = {
    "notifications": History(
        {
            "order_id": _ID,
            "kind": "'cancelled'",
            "sequence": "1",
            "recipient": "'ada@example.com'",
            "context": """'{
                "currency": "EUR", "total": 100, "shortages": [], "reason": "customer",
                "lines": [{"sku": "TEA", "quantity": 1, "unit_price": 100}]
            }'""",
            "status": "CASE WHEN mod(n, 100) = 0 THEN 'FAILED' ELSE 'SENT' END",
            "created_at": "at",
            "sent_at": "at",
        },
        waiting={"status": "'PENDING'", "sent_at": "NULL"},
    )
}

_FRAUD = {
    "judgements": History(
        {
            "order_id": _ID,
            "placed_at": "at",
            "customer_email": "'ada@example.com'",
            "customer": _KEY,
            "network": _KEY,
            "currency": "'EUR'",
            "total": "100",
            "pieces": "1",
            "skus": "1",
            "event_id": _ID,
            "judged_at": "at",
        }
    )
}

_ANALYTICS = {
    "stream_position": FIXED,
    "orders": History(
        {
            "id": _ID,
            "placed_at": "at",
            "currency": "'EUR'",
            "total": "100",
            "outcome": "'confirmed'",
            "decided_at": "at",
        }
    ),
    "minutes": History(
        {
            "minute": "at",
            "currency": "'EUR'",
            "placed": "1",
            "placed_total": "100",
            "confirmed": "1",
            "revenue": "100",
            "rejected": "0",
            "cancelled": "0",
            "decided": "1",
            "decision_microseconds": "1000",
        }
    ),
    "sku_minutes": History(
        {
            "minute": "at",
            "sku": "'TEA'",
            "currency": "'EUR'",
            "placed": "1",
            "pieces": "1",
            "confirmed": "1",
            "revenue": "100",
        }
    ),
    "skipped_events": History(
        {"stream_offset": "n", "reason": "''", "body": "''", "skipped_at": "at"}
    ),
    "stream_gaps": History({"first_offset": "n", "last_offset": "n", "noticed_at": "at"}),
}

_BY_SERVICE = {
    "order": _ORDER,
    "inventory": _INVENTORY,
    "notification": _NOTIFICATION,
    "fraud": _FRAUD,
    "analytics": _ANALYTICS,
}

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


class Histories:
    """The histories of the tables in one service's database."""

    def __init__(self, engine: Engine, service: str, event_type: str) -> None:
        """`event_type` is a type that the service publishes. Raises `UnknownTable`."""
        self._engine = engine
        self._type = event_type
        known = _COMMON | _BY_SERVICE.get(service, {})
        with engine.connect() as connection:
            tables = connection.scalars(text(_TABLES)).all()
        if unknown := sorted(set(tables) - set(known)):
            raise UnknownTable(f"{__name__} defines no rows of {service}'s {', '.join(unknown)}")
        self._histories = {t: known[t] for t in tables if known[t] is not FIXED}

    @property
    def tables(self) -> list[str]:
        """The tables that have a history."""
        return list(self._histories)

    def fill(self, *, kept: int, gone: int) -> None:
        """Add `kept` finished rows to every table, and `gone` rows that are deleted again.

        The statistics are from before the deletions, without waiting rows, and the indexes still
        contain the entries of deleted rows, because autovacuum is disabled.
        """
        with self._filling() as connection:
            for table in self._histories:
                connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
                self._add(connection, table, kept, _KEPT)
        with self._filling() as connection:
            connection.exec_driver_sql("ANALYZE")
        with self._filling() as connection:
            for table, history in self._histories.items():
                self._add(connection, table, gone, _GONE)
                if history.waiting:
                    self._add(connection, table, gone, _GONE, history.waiting)
                # The rows of this transaction.
                connection.exec_driver_sql(
                    f"DELETE FROM {table} WHERE xmin = pg_current_xact_id()::xid"
                )

    def wait(self, rows: int) -> None:
        """Add this many waiting rows to each table whose rows may wait."""
        with self._filling() as connection:
            for table, history in self._histories.items():
                if history.waiting:
                    self._add(connection, table, rows, _WAITING, history.waiting)

    @contextmanager
    def _filling(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            # Triggers are off, because they require rows of other tables, and prevent deletions.
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            # Until a commit is on disk, the rows that it deletes are not marked as dead.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            yield connection

    def _add(
        self,
        connection: Connection,
        table: str,
        rows: int,
        age: str,
        different: Mapping[str, str] | None = None,
    ) -> None:
        columns = {**self._histories[table].columns, **(different or {})}
        statement = f"""
            INSERT INTO {table} ({", ".join(columns)})
            SELECT {", ".join(columns.values())} FROM generate_series(1, {rows}) AS n,
                LATERAL (SELECT now() - interval '{age}' + n * interval '1 ms') AS m (at)
        """
        connection.exec_driver_sql(statement.replace(":type", f"'{self._type}'"))
