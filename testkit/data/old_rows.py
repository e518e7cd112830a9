"""Rows that are older and younger than their retention."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, insert, select

from eventbus.database.db import Sessions, transaction
from eventbus.outbox.table import outbox

#: Days for which rows are kept.
LIMIT = 10

OLD, YOUNG = timedelta(days=LIMIT, hours=1), timedelta(days=LIMIT, hours=-1)


def event(**columns: Any) -> dict[str, Any]:
    """Return an unsent outbox row that was recorded `age` ago, with these columns changed."""
    age = columns.pop("age", timedelta(0))
    then = datetime.now(UTC) - age
    row = {"event_id": uuid4(), "type": "order.created", "subject": uuid4(), "event": "{}"}
    return row | {"created_at": then, "next_attempt_at": then, "sent_at": None} | columns


def sent(age: timedelta) -> dict[str, Any]:
    """Return an outbox row that was recorded and sent this long ago."""
    return event(age=age, sent_at=datetime.now(UTC) - age)


def handled(age: timedelta) -> dict[str, Any]:
    """Return an inbox row of an event that occurred and was handled this long ago."""
    then = datetime.now(UTC) - age
    return {
        "event_id": uuid4(),
        "type": "order.created",
        "source": "order",
        "subject": uuid4(),
        "attempts": 1,
        "occurred_at": then,
        "handled_at": then,
    }


def fill(sessions: Sessions, table: Any, *rows: dict[str, Any]) -> None:
    """Insert rows into a table or a model."""
    with transaction(sessions) as session:
        session.execute(insert(table), list(rows))


def ids(sessions: Sessions, query: Select[Any]) -> set[Any]:
    """Return the values that a query of one column selects."""
    with transaction(sessions) as session:
        return set(session.scalars(query))


def of_outbox(sessions: Sessions) -> set[Any]:
    """Return the ids of the events in the outbox."""
    return ids(sessions, select(outbox.c.event_id))


def soon() -> float:
    """Return a deadline that allows a removal to complete."""
    return time.monotonic() + 30
