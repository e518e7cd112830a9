"""The shadow tables in which a replay rebuilds the projections."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from eventbus.errors import ExpectedError

#: The schema of the shadow tables.
BESIDE = "replay"

_HOLD = "SELECT pg_try_advisory_lock(hashtext('replay'))"
_RELEASE = "SELECT pg_advisory_unlock(hashtext('replay'))"
_DROP = "DROP SCHEMA IF EXISTS replay CASCADE"
_MAKE = """
CREATE SCHEMA replay;
CREATE TABLE replay.orders (LIKE public.orders INCLUDING ALL);
CREATE TABLE replay.minutes (LIKE public.minutes INCLUDING ALL);
CREATE TABLE replay.sku_minutes (LIKE public.sku_minutes INCLUDING ALL);
CREATE TABLE replay.skipped_events (LIKE public.skipped_events INCLUDING ALL);
CREATE TABLE replay.inbox (LIKE public.inbox INCLUDING ALL);
"""

# Queries return the previous rows until these statements are committed. The console keeps its
# permissions, which it would lose if tables were renamed.
_REPLACE = """
DELETE FROM public.orders WHERE placed_at >= :since;
DELETE FROM public.minutes WHERE minute >= :since;
DELETE FROM public.sku_minutes WHERE minute >= :since;
DELETE FROM public.skipped_events WHERE stream_offset BETWEEN :first AND :last;
INSERT INTO public.orders SELECT * FROM replay.orders;
INSERT INTO public.minutes SELECT * FROM replay.minutes;
INSERT INTO public.sku_minutes SELECT * FROM replay.sku_minutes;
-- The reader has read the same events, but may have skipped some that the replay projected.
INSERT INTO public.inbox SELECT * FROM replay.inbox ON CONFLICT DO NOTHING;
-- Without events of orders that were placed earlier, which only the live tables contain.
INSERT INTO public.skipped_events (stream_offset, order_id, type, reason, body, skipped_at)
SELECT stream_offset, order_id, type, reason, body, skipped_at FROM replay.skipped_events
WHERE NOT EXISTS (
    SELECT FROM public.orders WHERE id = skipped_events.order_id AND placed_at < :since
)
"""


class ReplayRunsError(ExpectedError):
    """Another replay is running. Only one may run at a time."""


@contextmanager
def tables(live: Engine) -> Iterator[None]:
    """Create empty shadow tables for the block. Raises `ReplayRunsError`."""
    with live.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.scalar(text(_HOLD)):
            raise ReplayRunsError
        try:
            # Drop the tables of a replay that was killed.
            connection.execute(text(_DROP))
            connection.execute(text(_MAKE))
            yield
        finally:
            connection.execute(text(_DROP))
            connection.execute(text(_RELEASE))


def put_in_place(session: Session, since: datetime | None, first: int, last: int) -> None:
    """Replace the live rows with the rebuilt rows, in the session's transaction.

    `since` is the first rebuilt minute, or None for all; `first` and `last` are the offsets read.
    """
    values = {"since": since or "-infinity", "first": first, "last": last}
    session.execute(text(_REPLACE), values)
