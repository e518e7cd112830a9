"""A message in a parking lot, and why it is there."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from amqp import Message

from common.failure import Failure
from common.kombu_topology import DELIVERY_LIMIT, Service

#: Why the broker itself parked a message, by its name for that reason.
_BROKER_REASONS = {
    "delivery_limit": f"no worker survived receiving it, in {DELIVERY_LIMIT + 1} deliveries",
    "rejected": "refused by its worker, without a reason",
    "maxlen": "its queue was full",
    "expired": "expired in its queue",
}

#: As `common.codec` reads it.
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, kw_only=True)
class Parked:
    """What is known of a parked message; a field is None when the message does not tell.

    `exception` is None when the broker parked it. The times are ISO 8601 in UTC.
    """

    service: str
    id: str | None
    type: str | None
    order_id: str | None
    exception: str | None
    text: str
    attempts: int | None
    first_failed_at: str | None
    last_failed_at: str | None
    release: str | None

    @classmethod
    def of(cls, service: Service, message: Message) -> "Parked":
        """Read a message, which may be anything."""
        headers = message.headers or {}
        failure = Failure.from_headers(headers)
        death = next(_deaths(headers, service.queue), None)
        return cls(
            service=service.name,
            id=event_id(message),
            type=_text(message.properties.get("type") or headers.get("task")),
            order_id=_order_id(message.body),
            # What the broker did came after what the headers tell of earlier attempts.
            exception=failure.exception if failure and not death else None,
            text=_reason(failure, death),
            attempts=failure.attempts if failure else None,
            first_failed_at=failure.first_at if failure else _time(death),
            last_failed_at=_time(death) or (failure.last_at if failure else None),
            release=failure.release if failure else None,
        )


def event_id(message: Message) -> str | None:
    """Return the id of the event that a message carries."""
    return _text(message.properties.get("message_id") or (message.headers or {}).get("id"))


def body_text(message: Message) -> str:
    """Return what a message says; bytes that are no text are escaped."""
    body = message.body
    return body if isinstance(body, str) else bytes(body).decode(errors="backslashreplace")


def event_time(message: Message) -> datetime | None:
    """Return when the event came to be that a message carries; None if no service could read it."""
    # Not when it failed: a redriven message forgets that, and may be parked again.
    with suppress(ValueError, LookupError, TypeError):
        return msgspec.convert(json.loads(message.body)[1]["event"]["time"], _Time)
    return None


def _reason(failure: Failure | None, death: Mapping[str, Any] | None) -> str:
    if death:
        reason = str(death.get("reason"))
        return _BROKER_REASONS.get(reason, reason)
    return failure.text if failure else "unknown: nothing in its headers tells why"


def _deaths(headers: Mapping[str, Any], queue: str) -> Iterator[Mapping[str, Any]]:
    # Newest first. What expired in a retry tier came back from there, and is no reason.
    deaths = headers.get("x-death")
    for death in deaths if isinstance(deaths, list) else ():
        if isinstance(death, dict) and death.get("queue") == queue:
            yield death


def _time(death: Mapping[str, Any] | None) -> str | None:
    moment = death.get("time") if death else None
    # AMQP's timestamps have no zone and are in UTC.
    return moment.replace(tzinfo=UTC).isoformat() if isinstance(moment, datetime) else None


def _order_id(body: bytes | str) -> str | None:
    with suppress(ValueError, LookupError, TypeError):
        return _text(json.loads(body)[1]["event"]["subject"])
    return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
