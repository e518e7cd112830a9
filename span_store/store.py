"""Insertion, search and deletion of spans."""

import re
from collections.abc import Sequence
from datetime import timedelta
from io import StringIO
from itertools import islice
from typing import Any, cast

from msgspec import json
from psycopg2.errors import UniqueViolation
from sqlalchemy import CursorResult, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from eventbus.database.db import Sessions, transaction
from span_store.models import SpanRow

#: Maximum number of rows that are deleted in one transaction, which is therefore short. The next
#: request deletes more.
DELETION = 10_000

#: Maximum number of traces shown for one order: its creation, its cancellation, and events that
#: were sent again manually.
TRACES = 20

#: Maximum number of spans shown for all these traces. An order that is retried often has a hundred.
SPANS = 2_000

_TRACE_ID = re.compile("[0-9a-f]{32}")


#: Characters that COPY's text format escapes.
_ESCAPED = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def keep(sessions: Sessions, rows: Sequence[dict[str, Any]]) -> None:
    """Store these spans. A span that is already stored, because it was sent twice, is unchanged."""
    if not rows:
        return
    try:
        # COPY costs a tenth of INSERT.
        with transaction(sessions) as session:
            _copy(session, rows)
    except UniqueViolation:
        with transaction(sessions) as session:
            session.execute(insert(SpanRow).on_conflict_do_nothing(), list(rows))


def _copy(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    columns = list(rows[0])
    lines = ("\t".join(_field(row[name]) for name in columns) + "\n" for row in rows)
    raw: Any = session.connection().connection
    with raw.cursor() as cursor:
        statement = f"COPY {SpanRow.__tablename__} ({', '.join(columns)}) FROM STDIN"
        cursor.copy_expert(statement, StringIO("".join(lines)))


def _field(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, dict):
        value = json.encode(value).decode()
    return str(value).translate(_ESCAPED)


def forget(session: Session, age: timedelta) -> int:
    """Delete up to `DELETION` spans that were received `age` ago or earlier; return how many."""
    old = select(SpanRow.trace_id, SpanRow.span_id).where(SpanRow.received_at < func.now() - age)
    key = tuple_(SpanRow.trace_id, SpanRow.span_id)
    deletion = delete(SpanRow).where(key.in_(old.limit(DELETION)))
    result = session.execute(deletion.execution_options(synchronize_session=False))
    return cast(CursorResult[Any], result).rowcount


def find(session: Session, order_or_trace: str) -> list[SpanRow]:
    """Return the spans of an order's traces, or of one trace, sorted by their start.

    At most `SPANS` spans are returned. The spans that name the order are preferred, because a
    client chooses the trace of its requests, and may place thousands of orders in one trace.
    """
    id_ = order_or_trace.lower()
    trace_ids = [id_] if _TRACE_ID.fullmatch(id_) else []
    own = session.scalars(
        select(SpanRow).where(SpanRow.order_id == id_).order_by(SpanRow.started_at).limit(SPANS)
    ).all()
    trace_ids += list(dict.fromkeys(span.trace_id for span in own))[:TRACES]
    # Without an order, only the first spans in the index are read.
    others = select(SpanRow).where(SpanRow.trace_id.in_(trace_ids)).limit(SPANS)
    spans = dict.fromkeys(
        span for span in (*own, *session.scalars(others)) if span.trace_id in trace_ids
    )
    return sorted(islice(spans, SPANS), key=lambda span: (span.started_at, span.span_id))
