"""The databases of a simulation: real, with a virtual clock and a record of every effect."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, event, pool, text
from sqlalchemy.orm import Session

from eventbus.database import db
from eventbus.database.db import Sessions
from testkit.servers.databases import TestDatabase
from testkit.simulation.scheduler import Crashed, Scheduler

#: Milliseconds of real time for which a statement waits for a lock. Only one actor runs at a time,
#: so a lock that is not free at once is held by an actor that waits for its turn.
_LOCK_TIMEOUT = 15

#: The functions of PostgreSQL that return the time, and are replaced in the simulation.
_CLOCKS = ("now", "clock_timestamp", "statement_timestamp")

_SCHEMA = f"""
CREATE SCHEMA sim;
CREATE TABLE sim.clock (at timestamptz NOT NULL);
INSERT INTO sim.clock VALUES ('2030-01-01Z');
{
    " ".join(
        f"CREATE FUNCTION sim.{name}() RETURNS timestamptz LANGUAGE sql STABLE"
        " AS 'SELECT at FROM sim.clock';"
        for name in _CLOCKS
    )
}
CREATE FUNCTION sim.random() RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT 0.5::float8';
CREATE TABLE sim.effects (event_id uuid NOT NULL);
CREATE TABLE sim.recorded (event_id uuid NOT NULL, type text NOT NULL);
CREATE FUNCTION sim.record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sim.recorded VALUES (NEW.event_id, NEW.type);
    RETURN NULL;
END $$;
CREATE TRIGGER record AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION sim.record();
ALTER TABLE outbox ALTER created_at SET DEFAULT sim.now();
ALTER TABLE outbox ALTER next_attempt_at SET DEFAULT sim.now();
ALTER TABLE inbox ALTER handled_at SET DEFAULT sim.now();
ALTER TABLE suspects ALTER begun_at SET DEFAULT sim.now();
"""

_TABLES = """
SELECT string_agg(quote_ident(schemaname) || '.' || quote_ident(tablename), ', ') FROM pg_tables
WHERE schemaname IN ('public', 'sim')
AND tablename NOT IN ('alembic_version', 'eventbus_version', 'clock')
"""

_END_LEFTOVERS = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity AS backend
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (state <> 'idle' OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))
"""

_KILL = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s
"""


class SimulatedDatabase:
    """The database of one service; its connections belong to actors, and end with them."""

    def __init__(self, database: TestDatabase) -> None:
        self._settings = database.service_settings
        self._admin = create_engine(
            database.url, poolclass=pool.StaticPool, isolation_level="AUTOCOMMIT"
        )
        self._engines: dict[str, Engine] = {}
        self._doomed: set[str] = set()
        #: Commits so far, which stand for the wake-ups of the relays.
        self.commits = 0
        self._scheduler: Scheduler | None = None
        with self._admin.connect() as connection:
            connection.exec_driver_sql(_SCHEMA)
            self._tables = connection.exec_driver_sql(_TABLES).scalar_one()

    def begin(self, scheduler: Scheduler) -> None:
        """Empty all tables, and start a run at the first moment of the clock."""
        self._scheduler = None
        with self._admin.connect() as connection:
            connection.exec_driver_sql(_END_LEFTOVERS)
            connection.exec_driver_sql(f"TRUNCATE {self._tables} RESTART IDENTITY CASCADE")
        self._set_clock(0.0)
        scheduler.clock.on_advance(self._set_clock)
        self._scheduler = scheduler

    def sessions(self, actor: str, parameters: Mapping[str, object] = db.BY_KEY) -> Sessions:
        """Return the sessions of an actor, with these PostgreSQL parameters."""
        self._doomed.discard(actor)
        if actor not in self._engines:
            self._engines[actor] = self._engine(actor, parameters)
        return db.sessions(self._engines[actor])

    def release(self) -> None:
        """End the run: from now on, statements are not points."""
        self._scheduler = None

    def kill(self, actor: str) -> None:
        """End the connections of an actor, which cannot open others."""
        self._doomed.add(actor)
        self.disconnect(actor)
        if engine := self._engines.pop(actor, None):
            engine.dispose()

    def disconnect(self, actor: str) -> None:
        """End the connections of an actor, which may open others."""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(_KILL, (actor,))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the result of a query."""
        with self._admin.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def close(self) -> None:
        """Close all connections."""
        for engine in (*self._engines.values(), self._admin):
            engine.dispose()

    def _engine(self, actor: str, parameters: Mapping[str, object]) -> Engine:
        session = {
            **parameters,
            "search_path": "sim,public,pg_catalog",
            "application_name": actor,
            "lock_timeout": _LOCK_TIMEOUT,
        }
        engine = db.engine(self._settings, pool_size=2, session=session)

        def before_connect(*_: object) -> None:
            if actor in self._doomed:
                raise Crashed

        def at_point() -> None:
            if self._scheduler and actor not in self._doomed:
                self._scheduler.point()

        def before_statement(_connection: object, _cursor: object, sql: str, *_: object) -> None:
            # Whether a statement is prepared already depends on earlier runs.
            if not sql.startswith("PREPARE"):
                at_point()

        def before_commit(_connection: object) -> None:
            at_point()
            self.commits += 1

        event.listen(engine, "do_connect", before_connect)
        event.listen(engine, "before_cursor_execute", before_statement)
        event.listen(engine, "commit", before_commit)
        return engine

    def _set_clock(self, now: float) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(
                "UPDATE sim.clock SET at = timestamptz '2030-01-01Z' + %s * interval '1 s'", (now,)
            )


def record_effects(session: Session, event_ids: Iterable[UUID]) -> None:
    """Record an effect of each event in the transaction of the effects themselves."""
    statement = text("INSERT INTO sim.effects SELECT unnest(CAST(:ids AS uuid[]))")
    session.execute(statement, {"ids": [str(event_id) for event_id in event_ids]})
