"""A message in a parking lot, and the reason why it is parked. Its content is not trusted."""

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
from eventbus.errors import WaitsBehind
from eventbus.messaging import untrusted
from eventbus.messaging.readable_properties import PROBLEM
from eventbus.topology.limits import DELIVERY_LIMIT
from eventbus.topology.service import Service

#: The reasons why the broker itself parks a message, by their names in the broker.
_BROKER_REASONS = {
    "delivery_limit": f"exceeded the delivery limit: {DELIVERY_LIMIT + 1} deliveries",
    "rejected": "rejected by its worker, without a reason",
    "maxlen": "its queue was full",
    "expired": "expired in its queue",
}

#: A time with a zone, as in `eventbus.events.codec`.
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A parked message; a field is None if the message does not contain it.

    `exception` is None if the broker itself parked the message. The times are ISO 8601 in UTC.
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
    #: The function that failed, such as `inventory_worker/reservations.py:lock_stock`.
    frame: str | None
    #: The SHA-256 of the body, which distinguishes messages with the same event id.
    digest: str = ""

    @property
    def first_failure(self) -> datetime | None:
        """The time of the first failure, or None if the message does not contain a valid time."""
        return _moment(self.first_failed_at)

    @property
    def last_failure(self) -> datetime | None:
        """The time of the last failure, or None if the message does not contain a valid time."""
        return _moment(self.last_failed_at)

    @property
    def is_waiting(self) -> bool:
        """Whether the message has not failed, but waits behind an earlier event of its order."""
        return self.exception == WaitsBehind.__name__

    @property
    def failure(self) -> str:
        """The class of the exception or, if the broker parked the message, its reason."""
        return self.exception or self.text.partition(";")[0]

    @classmethod
    def of(cls, service: Service, message: Message) -> "Parked":
        """Return the description of a parked message, regardless of its content."""
        headers = message.headers or {}
        failure = Failure.from_headers(headers)
        death = next(_deaths(headers, service), None)
        return cls(
            service=service.name,
            id=event_id(message),
            type=_text(message.properties.get("type") or headers.get("task")),
            order_id=_text(untrusted.envelope(message.body).get("subject")),
            # The broker's own reason is more recent than the attempts in the headers.
            exception=_text(failure.exception) if failure and not death else None,
            text=_reason(failure, death, headers.get(PROBLEM)),
            attempts=failure.attempts if failure else None,
            first_failed_at=_text(failure.first_at) if failure else _time(death),
            last_failed_at=_time(death) or (_text(failure.last_at) if failure else None),
            release=_text(failure.release) if failure else None,
            frame=_text(failure.frame) if failure and not death else None,
            digest=digest(message),
        )


def event_id(message: Message) -> str:
    """Return the id of the event that a message carries, as `untrusted.text`.

    A message without an id is named after its body, and can also be shown, redriven and discarded.
    """
    name = _text(message.properties.get("message_id") or (message.headers or {}).get("id"))
    return name or f"unnamed-{digest(message)[:16]}"


def body_text(body: bytes) -> str:
    """Return a body as text; bytes that are not text are escaped."""
    return body.decode(errors="backslashreplace")


def digest(message: Message) -> str:
    """Return the SHA-256 of a message's body, which distinguishes messages of one event id."""
    return sha256(body_bytes(message)).hexdigest()


def event_time(message: Message) -> datetime | None:
    """Return the time of a message's event, or None if the event cannot be decoded."""
    # The time of the failure is not used, because a redriven message loses that time, and may be
    # parked again.
    with suppress(msgspec.ValidationError):
        return msgspec.convert(untrusted.envelope(message.body).get("time"), _Time)
    return None


def body_bytes(message: Message) -> bytes:
    """Return the body of a message."""
    body = message.body
    return body if isinstance(body, bytes) else str(body).encode(errors="surrogatepass")


def _reason(failure: Failure | None, death: Mapping[str, Any] | None, problem: object) -> str:
    if death:
        name = str(_text(death.get("reason")))
        reason = _BROKER_REASONS.get(name, name)
    elif failure:
        reason = untrusted.text(failure.text, TEXT_LIMIT)
    else:
        reason = "unknown: its headers contain no reason"
    return f"{reason}; unreadable: {untrusted.text(problem, 500)}" if problem else reason


def _deaths(headers: Mapping[str, Any], service: Service) -> Iterator[Mapping[str, Any]]:
    # The entries are sorted newest first. An entry for the expiry in a retry tier is not a reason
    # for parking: that message has only returned.
    deaths = headers.get("x-death")
    for death in deaths if isinstance(deaths, list) else ():
        if isinstance(death, dict) and service.is_part_queue(str(death.get("queue"))):
            yield death


def _time(death: Mapping[str, Any] | None) -> str | None:
    moment = death.get("time") if death else None
    # AMQP's timestamps have no zone and are in UTC.
    return moment.replace(tzinfo=UTC).isoformat() if isinstance(moment, datetime) else None


def _moment(value: str | None) -> datetime | None:
    # A publisher may have set the header to any text.
    with suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(value or "")
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return None


def _text(value: object) -> str | None:
    return None if value in (None, "") else untrusted.text(value)
