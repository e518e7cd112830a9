"""What becomes of published events: recorded with their rows, in the lanes, and in the log."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from eventbus.events.catalogue import current
from eventbus.messaging.in_flight import Report
from eventbus.outbox.batches import Batch
from eventbus.outbox.claims import Unsent
from eventbus.outbox.lanes import REPAIR, Lanes, delay
from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Seconds to wait at most when the broker is away. Each relay has one connection to open.
BROKER_DELAY = 10.0


class Outcomes:
    """Records the reports of one relay's batches."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        #: Why the broker took nothing at the last attempt.
        self.broker_error: str | None = None
        #: Attempts in a row that found no broker, and when the next one may be.
        self._absences, self._next_attempt = 0, 0.0
        self._unheard: frozenset[str] = frozenset()

    def record(self, unsent: Unsent, batch: Batch, report: Report) -> int:
        """Mark what was confirmed, and put what failed into lanes; returns how many were confirmed.

        What stands nowhere in the report stays where it was.
        """
        now = time.monotonic()
        confirmed = [row for row in batch.rows if row.event_id in report.confirmed]
        if confirmed:
            unsent.mark_sent(confirmed)
            _observe(confirmed, now - batch.began)
            if batch.lane:
                unsent.release(confirmed)
                self._lanes.confirm(batch.lane, len(confirmed), now)
        if len(confirmed) < len(batch.rows):
            self._postpone(unsent, batch, report, now)
        self._note_unheard(report)
        error = None if report.objected else report.error
        self._absences = self._absences + 1 if error else 0
        if error:
            self._next_attempt = now + delay(self._absences, BROKER_DELAY)
        self.note(error)
        return len(confirmed)

    @property
    def wait(self) -> float:
        """Seconds until the broker may be tried again; 0 while it is there."""
        return max(0.0, self._next_attempt - time.monotonic())

    def note(self, broker_error: str | None) -> None:
        """Log that the broker takes no events, or takes them again: one line for each change."""
        if broker_error != self.broker_error:
            if broker_error:
                log.error("the broker does not take events", extra={"reason": broker_error})
            else:
                log.info("the broker takes events again")
        self.broker_error = broker_error

    def _postpone(self, unsent: Unsent, batch: Batch, report: Report, now: float) -> None:
        failed: dict[tuple[str, str, str | None], list[Row[Any]]] = defaultdict(list)
        for row in batch.rows:
            for kind, lane, reason in _failures(row, batch, report):
                failed[kind, lane, reason].append(row)
        for (kind, lane, reason), rows in failed.items():
            unsent.postpone(rows, lane, reason)
            for row in rows:
                metrics.PUBLISHING_FAILED.labels(row.type, kind).inc()
                if reason and not row.attempts:
                    _log_first(row, kind, reason)
        refusing = dict.fromkeys(lane for _, lane, _ in failed if lane != REPAIR)
        opened = self._lanes.fail(refusing, now)
        if refused := [t for t in opened if ("refused", t, None) in failed]:
            events = sum(len(failed["refused", t, None]) for t in refused)
            about = {"events": events, "types": ", ".join(refused)}
            log.warning("a queue is full or has no quorum", extra=about)
        if len(failed) > len(refusing):
            self._lanes.open(REPAIR, now)
        if report.objected:
            self._suspect(batch, now)

    def _suspect(self, batch: Batch, now: float) -> None:
        # The broker does not tell which event it objects to, nor whether to its type or to itself.
        # Of several, the next attempts send one at a time; then another one of its type is tried.
        if batch.lane:
            self._lanes.object(batch.lane, now, is_alone=len(batch.rows) == 1)
        elif len(batch.rows) == 1:
            self._lanes.open(batch.rows[0].type, now)

    def _note_unheard(self, report: Report) -> None:
        if report.unheard - self._unheard:
            about = {"types": ", ".join(sorted(report.unheard))}
            log.warning("versions of events are published that nobody hears", extra=about)
        self._unheard = self._unheard | report.unheard


def _failures(row: Row[Any], batch: Batch, report: Report) -> Iterator[tuple[str, str, str | None]]:
    """Yield how an event failed, if it did: the kind, the lane in which it waits, the reason."""
    event_id = row.event_id
    if event_id in report.invalid:
        yield "invalid", REPAIR, report.invalid[event_id]
    elif event_id in report.returned:
        yield "returned", row.type, report.returned[event_id]
    elif event_id in report.refused:
        yield "refused", row.type, None
    elif report.objected and len(batch.rows) == 1:
        yield "objected", REPAIR, report.error


def _log_first(row: Row[Any], kind: str, reason: str) -> None:
    text = "unroutable" if kind == "returned" else "event isolated"
    about = {"event_id": str(row.event_id), current().id_field: str(row.subject), "reason": reason}
    log.error(text, extra=about)


def _observe(confirmed: list[Row[Any]], took: float) -> None:
    for row in confirmed:
        metrics.EVENT_CONFIRMED.labels(row.type).observe(row.age + took)
