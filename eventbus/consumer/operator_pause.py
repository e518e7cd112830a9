"""The operator's pause: a row in a service's database, which all of the service's workers obey.

The row survives restarts of workers and of the broker, and applies to workers that start later. A
worker that cannot reach its database cannot read the row, but cannot handle events either. A worker
whose handlers fail inserts the row itself; only an operator deletes it.

The pause that ended last is kept in a second row, for workers that start soon after it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Row,
    SmallInteger,
    Table,
    Text,
    delete,
    extract,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from eventbus.database.db import metadata

operator_pause = Table(
    "operator_pause",
    metadata,
    Column(
        "id",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
    ),
    Column("reason", Text, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("paused_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint(
        "id = 1 AND ended_at IS NULL OR id = 2 AND ended_at IS NOT NULL", name="ended_at"
    ),
)

#: The ids of the rows with the pause in effect and with the pause that ended last.
_IN_EFFECT, _ENDED = 1, 2

#: The prefix of `paused_by` if a worker has paused its service. Operators' names contain no spaces.
_WORKER = "worker "

_COLUMNS = (
    operator_pause.c.reason,
    operator_pause.c.paused_by,
    operator_pause.c.paused_at,
    extract("epoch", func.clock_timestamp() - operator_pause.c.paused_at).label("seconds"),
    extract("epoch", func.clock_timestamp() - operator_pause.c.ended_at).label("ended_seconds"),
)


@dataclass(frozen=True, kw_only=True)
class OperatorPause:
    """A pause, with its age in seconds by the database's clock.

    `ended_seconds` is the time since its end, or None while it is in effect.
    """

    reason: str
    paused_by: str
    paused_at: datetime
    seconds: float
    ended_seconds: float | None = None

    @property
    def is_by_worker(self) -> bool:
        """Whether a worker has paused its service, rather than an operator."""
        return self.paused_by.startswith(_WORKER)


def begin(session: Session, *, reason: str, by: str) -> OperatorPause | None:
    """Pause the service and return the pause; an existing pause is returned unchanged."""
    row = insert(operator_pause).values(id=_IN_EFFECT, reason=reason, paused_by=by)
    paused = session.execute(row.on_conflict_do_nothing().returning(operator_pause.c.id)).first()
    return None if paused else read(session)


def begin_by_worker(session: Session, *, reason: str, hostname: str) -> OperatorPause | None:
    """Pause the service as one of its workers, and return the pause that is in effect.

    A pause that is already in effect is not changed. The result is None only if an operator resumes
    the service at the same time.
    """
    return begin(session, reason=reason, by=_WORKER + hostname) or read(session)


def end(session: Session) -> OperatorPause | None:
    """Resume the service; return the pause that has ended, or None if there was none."""
    row = delete(operator_pause).where(operator_pause.c.id == _IN_EFFECT).returning(*_COLUMNS)
    ended = _pause(session.execute(row).one_or_none())
    if ended:
        session.execute(delete(operator_pause).where(operator_pause.c.id == _ENDED))
        last = insert(operator_pause).values(
            id=_ENDED,
            reason=ended.reason,
            paused_by=ended.paused_by,
            paused_at=ended.paused_at,
            ended_at=func.clock_timestamp(),
        )
        session.execute(last)
    return ended


def read(session: Session) -> OperatorPause | None:
    """Return the pause that is in effect, or None."""
    row = select(*_COLUMNS).where(operator_pause.c.id == _IN_EFFECT)
    return _pause(session.execute(row).one_or_none())


def latest(session: Session) -> OperatorPause | None:
    """Return the pause in effect or, if there is none, the last pause that ended, or None."""
    row = select(*_COLUMNS).order_by(operator_pause.c.id).limit(1)
    return _pause(session.execute(row).one_or_none())


def _pause(row: Row[Any] | None) -> OperatorPause | None:
    if row is None:
        return None
    return OperatorPause(
        reason=row.reason,
        paused_by=row.paused_by,
        paused_at=row.paused_at,
        seconds=float(row.seconds),
        ended_seconds=None if row.ended_seconds is None else float(row.ended_seconds),
    )
