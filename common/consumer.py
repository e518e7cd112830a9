"""What a service does with one event, from the bytes to the commit. No Celery in here."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from common import codec, tracing
from common.db import Sessions, transaction
from common.errors import InvalidEvent, Permanent, Transient
from common.events import Data, Event
from common.inbox import first_delivery

log = logging.getLogger(__name__)

Handler = Callable[[Session, Event], None]
Handlers = Mapping[type[Data], Handler]


class Outcome(StrEnum):
    """How the handling of an event ended."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    FAILED = "failed"


def receive(
    sessions: Sessions, handlers: Handlers, envelope: Any, *, task: str, attempts: int
) -> Outcome:
    """Handle one event once: its effect and its dedup key commit together or not at all.

    `attempts` counts this one. Raises `InvalidEvent` when the envelope is not an event of the type
    that the task is named for, and whatever the handler or the database raises.
    """
    event = _decode(envelope, task)
    handle = handlers[type(event.data)]
    try:
        with transaction(sessions) as session:
            if first_delivery(session, event, attempts=attempts):
                handle(session, _continued(event))
                outcome = Outcome.HANDLED
            else:
                outcome = Outcome.DUPLICATE
    except (Transient, Permanent):
        raise
    except Exception:
        # Nobody raised it on purpose: whoever mends it needs the trace.
        log.exception("a handler failed", extra=_log_fields(event, attempts, Outcome.FAILED))
        raise
    log.info("an event was received", extra=_log_fields(event, attempts, outcome))
    return outcome


def _decode(envelope: Any, task: str) -> Event:
    if not isinstance(envelope, dict):
        raise InvalidEvent("the message carries no envelope")
    event = codec.decode(envelope)
    if event.type != task:
        raise InvalidEvent(f"an event of type {event.type} came as {task}")
    return event


def _continued(event: Event) -> Event:
    # What the handler appends or records goes on from its own span, if there is one.
    return replace(event, traceparent=tracing.traceparent() or event.traceparent)


def _log_fields(event: Event, attempts: int, outcome: Outcome) -> dict[str, Any]:
    return {
        "event_id": str(event.id),
        "event_type": event.type,
        "order_id": str(event.subject),
        "attempt": attempts,
        "outcome": outcome.value,
    }
