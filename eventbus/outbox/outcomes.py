"""The outcomes of published events, recorded in their rows, in the lanes and in the log."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from eventbus.events.catalogue import current
from eventbus.messaging.in_flight import Report
from eventbus.outbox.batches import Batch
from eventbus.outbox.claims import Claims
from eventbus.outbox.lanes import REPAIR, Lanes, delay
from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Maximum backoff in seconds while the broker is unavailable. Each relay opens one connection.
BROKER_DELAY = 10.0


class Outcomes:
    """The recorder of the reports of a relay's batches."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        #: The reason why the broker rejected events at the last attempt, or None.
        self.broker_error: str | None = None
        #: Number of consecutive attempts that found no broker, and the earliest time of the next
        #: attempt.
        self._failed_attempts, self._next_attempt = 0, 0.0
        self._unconsumed: frozenset[str] = frozenset()

    def record(self, claims: Claims, batch: Batch, report: Report) -> int:
        """Mark confirmed events, move failed events to lanes, and return the number confirmed.

        Events without an outcome in the report are not changed.
        """
        now = time.monotonic()
        confirmed = [row for row in batch.rows if row.event_id in report.confirmed]
        if confirmed:
            claims.mark_sent(confirmed)
            _observe_durations(confirmed, now - batch.began)
            if batch.lane:
                claims.release(confirmed)
                self._lanes.confirm(batch.lane, len(confirmed), now)
        if len(confirmed) < len(batch.rows):
            self._postpone(claims, batch, report, now)
        self._log_unconsumed(report)
        error = None if report.objected else report.error
        self._failed_attempts = self._failed_attempts + 1 if error else 0
        if error:
            self._next_attempt = now + delay(self._failed_attempts, BROKER_DELAY)
        self.note(error)
        return len(confirmed)

    @property
    def wait(self) -> float:
        """Seconds until the next attempt to reach the broker; 0 while it is available."""
        return max(0.0, self._next_attempt - time.monotonic())

    def note(self, broker_error: str | None) -> None:
        """Log when the broker stops or resumes accepting events: one line for each change."""
        if broker_error != self.broker_error:
            if broker_error:
                log.error("broker not accepting events", extra={"reason": broker_error})
            else:
                log.info("broker accepting events again")
        self.broker_error = broker_error

    def _postpone(self, claims: Claims, batch: Batch, report: Report, now: float) -> None:
        failed: dict[tuple[str, str, str | None], list[Row[Any]]] = defaultdict(list)
        for row in batch.rows:
            for kind, lane, reason in _failures(row, batch, report):
                failed[kind, lane, reason].append(row)
        for (kind, lane, reason), rows in failed.items():
            claims.postpone(rows, lane, reason)
            for row in rows:
                metrics.PUBLISHING_FAILED.labels(row.type, kind).inc()
                if reason and not row.attempts:
                    _log_first_failure(row, kind, reason)
        refusing = dict.fromkeys(lane for _, lane, _ in failed if lane != REPAIR)
        opened = self._lanes.fail(refusing, now)
        if refused := [t for t in opened if ("refused", t, None) in failed]:
            events = sum(len(failed["refused", t, None]) for t in refused)
            fields = {"events": events, "types": ", ".join(refused)}
            log.warning("events refused: a queue is full or has no quorum", extra=fields)
        if len(failed) > len(refusing):
            self._lanes.open(REPAIR, now)
        if report.objected:
            self._narrow_down(batch, now)

    def _narrow_down(self, batch: Batch, now: float) -> None:
        # The broker does not report which event it objects to, nor whether it objects to the event
        # or to its type. After a batch of several events, the next attempts send one event at a
        # time; then another event of its type is tried.
        if batch.lane:
            self._lanes.object(batch.lane, now, is_alone=len(batch.rows) == 1)
        elif len(batch.rows) == 1:
            self._lanes.open(batch.rows[0].type, now)

    def _log_unconsumed(self, report: Report) -> None:
        if report.unconsumed - self._unconsumed:
            fields = {"types": ", ".join(sorted(report.unconsumed))}
            log.warning("published event versions have no consumer", extra=fields)
        self._unconsumed = self._unconsumed | report.unconsumed


def _failures(row: Row[Any], batch: Batch, report: Report) -> Iterator[tuple[str, str, str | None]]:
    """Yield the kind of an event's failure, its lane, and the reason, if the event failed."""
    event_id = row.event_id
    if event_id in report.invalid:
        yield "invalid", REPAIR, report.invalid[event_id]
    elif event_id in report.returned:
        yield "returned", row.type, report.returned[event_id]
    elif event_id in report.refused:
        yield "refused", row.type, None
    elif report.objected and len(batch.rows) == 1:
        yield "objected", REPAIR, report.error


def _log_first_failure(row: Row[Any], kind: str, reason: str) -> None:
    message = "event unroutable" if kind == "returned" else "event isolated"
    fields = {"event_id": str(row.event_id), current().id_field: str(row.subject), "reason": reason}
    log.error(message, extra=fields)


def _observe_durations(confirmed: list[Row[Any]], seconds: float) -> None:
    for row in confirmed:
        metrics.EVENT_CONFIRMED.labels(row.type).observe(row.age + seconds)
