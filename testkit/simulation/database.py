"""The databases of a simulation, which are real, with a virtual clock and a record of effects."""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import psycopg2
from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event, text
from sqlalchemy.orm import Session

from eventbus.database import db
from eventbus.database.db import Sessions
from eventbus.settings.database import DatabaseSettings
from testkit.simulation.scheduler import Crashed, Scheduler

#: Milliseconds of real time for which a statement waits for a lock. Only one actor runs at a time,
#: so a lock that is not free immediately is held by an actor that waits for its turn.
_LOCK_TIMEOUT = 1

#: The statement with which the code under simulation sets another timeout.
_OWN_TIMEOUT = re.compile(r"SET LOCAL lock_timeout = \d+")

#: Seconds of real time to wait for the end of a session, and between two checks.
_END_LIMIT, _END_PAUSE = 30.0, 0.0002

#: The functions of PostgreSQL that return the time, and are replaced in the simulation.
_CLOCKS = ("now", "clock_timestamp", "statement_timestamp")

# The simulation itself wakes the relays. A notification would lock the whole server during its
# commit, and the commits of other processes, which run other seeds, would fail at `_LOCK_TIMEOUT`.
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
CREATE FUNCTION sim.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
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

# The tables that have or had rows. Truncating all tables would take ten times as long.
_FILLED = """
SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables
WHERE schemaname IN ('public', 'sim')
    AND tablename NOT IN ('alembic_version', 'eventbus_version', 'clock')
    AND pg_relation_size(format('%I.%I', schemaname, tablename)::regclass) > 0
"""

_RESTART_SEQUENCES = """
SELECT setval(format('%I.%I', schemaname, sequencename), 1, false) FROM pg_sequences
"""

_SET_CLOCK = "UPDATE sim.clock SET at = timestamptz '2030-01-01Z' + %s * interval '1 s'"

# The function is called without a timeout. With a timeout, it would check for the end of the
# session only every 100 ms.
_TERMINATE = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND {condition}
"""

# A session leaves the list after it has rolled back and released its locks.
_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)"

_OF_ACTOR = _TERMINATE.format(condition="application_name = %s")

_LEFTOVERS = _TERMINATE.format(
    condition="""
    pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND (state <> 'idle' OR pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'))
    """
)


class SimulatedDatabase:
    """The database of one service. Its connections belong to actors, and end with them."""

    def __init__(self, url: URL) -> None:
        """`url` names a migrated database, whose other sessions may be terminated."""
        self._url = url
        self._admin = psycopg2.connect(
            host=url.query["host"], user=url.username, dbname=url.database
        )
        self._admin.autocommit = True
        self._engines: dict[str, Engine] = {}
        self._doomed: set[str] = set()
        #: Number of commits so far, which stand for the wake-ups of the relays.
        self.commits = 0
        self._scheduler: Scheduler | None = None
        #: The virtual time of the database.
        self._now = 0.0
        self._execute(_SCHEMA)

    def begin(self, scheduler: Scheduler) -> None:
        """Empty all tables, and start a run at the first moment of the clock."""
        self._scheduler = None
        self._terminate(_LEFTOVERS)
        ((filled,),) = self.rows(_FILLED)
        if filled:
            self._execute(f"TRUNCATE {filled} CASCADE")
        self._execute(_RESTART_SEQUENCES)
        self._set_clock(0.0)
        self._scheduler = scheduler

    def sessions(self, actor: str, parameters: Mapping[str, object] = db.BY_KEY) -> Sessions:
        """Return the sessions of an actor, with these PostgreSQL parameters."""
        self._doomed.discard(actor)
        if actor not in self._engines:
            self._engines[actor] = self._engine(actor, parameters)
        return db.sessions(self._engines[actor])

    def release(self) -> None:
        """End the run. From now on, statements are not points."""
        self._scheduler = None

    def kill(self, actor: str) -> None:
        """End the connections of an actor, which cannot reconnect until `sessions` is called."""
        self._doomed.add(actor)
        self.disconnect(actor)
        # The engine remains, with the statements that it has compiled.
        if engine := self._engines.get(actor):
            engine.dispose()

    def disconnect(self, actor: str) -> None:
        """End the connections of an actor, which may reconnect."""
        self._terminate(_OF_ACTOR, actor)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the result of a query."""
        with self._admin.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()
        self._admin.close()

    def _engine(self, actor: str, parameters: Mapping[str, object]) -> Engine:
        session = {
            **parameters,
            "search_path": "sim,public,pg_catalog",
            "application_name": actor,
            "lock_timeout": _LOCK_TIMEOUT,
        }
        # The engine reads only the timeouts from these settings, and the timeouts have defaults.
        settings = DatabaseSettings.model_construct()
        options: dict[str, Any] = db.engine_options(settings, pool_size=2, session=session)
        engine = create_engine(self._url, **options)

        def before_connect(*_: object) -> None:
            if actor in self._doomed:
                raise Crashed

        def at_point() -> None:
            if self._scheduler and actor not in self._doomed:
                self._scheduler.point()

        def before_statement(
            _connection: object, _cursor: object, sql: str, parameters: object, *_: object
        ) -> tuple[str, object]:
            # Whether a statement is prepared already depends on earlier runs.
            if not sql.startswith("PREPARE"):
                at_point()
            if self._scheduler and self._scheduler.clock.now != self._now:
                self._set_clock(self._scheduler.clock.now)
            return _OWN_TIMEOUT.sub(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT}", sql), parameters

        def on_error(context: ExceptionContext) -> None:
            # After a session has ended, either its next statement or the statement's preparation
            # fails, depending on earlier runs. Both count as one point.
            if (context.statement or "").startswith("PREPARE"):
                at_point()

        def before_commit(_connection: object) -> None:
            at_point()
            self.commits += 1

        event.listen(engine, "do_connect", before_connect)
        event.listen(engine, "before_cursor_execute", before_statement, retval=True)
        event.listen(engine, "handle_error", on_error)
        event.listen(engine, "commit", before_commit)
        return engine

    def _set_clock(self, now: float) -> None:
        self._execute(_SET_CLOCK, now)
        self._now = now

    def _terminate(self, query: str, *parameters: object) -> None:
        """Terminate the sessions that a query selects, and wait until they have ended."""
        with self._admin.cursor() as cursor:
            cursor.execute(query, parameters or None)
            pids = [pid for pid, _ in cursor.fetchall()]
            deadline = time.monotonic() + _END_LIMIT
            while pids and time.monotonic() < deadline:
                cursor.execute(_COUNT, (pids,))
                if cursor.fetchone() == (0,):
                    return
                time.sleep(_END_PAUSE)
        if pids:
            raise TimeoutError(f"sessions have not ended in {_END_LIMIT:g} s: {pids}")

    def _execute(self, statement: str, *parameters: object) -> None:
        with self._admin.cursor() as cursor:
            cursor.execute(statement, parameters or None)


def record_effects(session: Session, event_ids: Iterable[UUID]) -> None:
    """Record an effect of each event in the transaction of the effects themselves."""
    statement = text("INSERT INTO sim.effects SELECT unnest(CAST(:ids AS uuid[]))")
    session.execute(statement, {"ids": [str(event_id) for event_id in event_ids]})
