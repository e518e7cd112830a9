"""A message in a parking lot, and why it is there. Nothing in it is trusted."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from amqp import Message

from eventbus.consumer.cause import TEXT_LIMIT
from eventbus.consumer.failure import Failure
from eventbus.messaging import untrusted
from eventbus.messaging.readable_properties import PROBLEM
from eventbus.topology.limits import DELIVERY_LIMIT
from eventbus.topology.service import Service

#: Why the broker itself parked a message, by its name for that reason.
_BROKER_REASONS = {
    "delivery_limit": f"no worker survived receiving it, in {DELIVERY_LIMIT + 1} deliveries",
    "rejected": "refused by its worker, without a reason",
    "maxlen": "its queue was full",
    "expired": "expired in its queue",
}

#: As `eventbus.events.codec` reads it.
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, kw_only=True)
class Parked:
    """What is known of a parked message; a field is None when the message does not tell.

    `exception` is None when the broker parked it. The times are ISO 8601 in UTC.
    """

    service: str
    id: str
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
            order_id=_text(untrusted.envelope(message.body).get("subject")),
            # What the broker did came after what the headers tell of earlier attempts.
            exception=_text(failure.exception) if failure and not death else None,
            text=_reason(failure, death, headers.get(PROBLEM)),
            attempts=failure.attempts if failure else None,
            first_failed_at=_text(failure.first_at) if failure else _time(death),
            last_failed_at=_time(death) or (_text(failure.last_at) if failure else None),
            release=_text(failure.release) if failure else None,
        )


def event_id(message: Message) -> str:
    """Return the id of the event that a message carries, as `untrusted.text`.

    A message without one is named by its body: it can be shown, redriven and discarded as others.
    """
    named = _text(message.properties.get("message_id") or (message.headers or {}).get("id"))
    return named or f"unnamed-{sha256(_bytes(message.body)).hexdigest()[:16]}"


def body_text(message: Message) -> str:
    """Return what a message says; bytes that are not text are escaped."""
    return _bytes(message.body).decode(errors="backslashreplace")


def event_time(message: Message) -> datetime | None:
    """Return when the event came to be that a message carries; None if no service could read it."""
    # Not when it failed: a redriven message forgets that, and may be parked again.
    with suppress(msgspec.ValidationError):
        return msgspec.convert(untrusted.envelope(message.body).get("time"), _Time)
    return None


def _bytes(body: bytes | str) -> bytes:
    return body if isinstance(body, bytes) else body.encode(errors="surrogatepass")


def _reason(failure: Failure | None, death: Mapping[str, Any] | None, problem: object) -> str:
    if death:
        reason = str(_text(death.get("reason")))
        found = _BROKER_REASONS.get(reason, reason)
    else:
        why = "unknown: nothing in its headers tells why"
        found = untrusted.text(failure.text, TEXT_LIMIT) if failure else why
    return f"{found}; unreadable: {untrusted.text(problem, 500)}" if problem else found


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


def _text(value: object) -> str | None:
    return None if value in (None, "") else untrusted.text(value)
