"""A past event from the stream, and the message that delivers it to a service again."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from amqp import Message

from eventbus.messaging import untrusted
from eventbus.messaging.event_message import task_headers
from eventbus.messaging.stream import Entry

#: A time with a zone, as in `eventbus.events.codec`.
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class PastEvent:
    """A message of the stream. If it does not contain an event, the service rejects the copy."""

    entry: Entry
    body: bytes
    payload: Any
    envelope: dict[str, Any] | None

    @classmethod
    def of(cls, entry: Entry) -> "PastEvent":
        """Return the event in a message of the stream."""
        raw = entry.message.body
        body = raw.encode() if isinstance(raw, str) else bytes(raw)
        payload = untrusted.decoded(body)
        with suppress(LookupError, TypeError):
            if isinstance(envelope := payload[1]["event"], dict):
                return cls(entry, body, payload, envelope)
        return cls(entry, body, None, None)

    @property
    def time(self) -> datetime | None:
        """The time of the event, or None."""
        with suppress(msgspec.ValidationError, OverflowError):
            time = msgspec.convert((self.envelope or {}).get("time"), _Time)
            return time.astimezone(UTC)
        return None

    @property
    def id(self) -> UUID | None:
        """The dedup key of the event, or None."""
        event_id = (self.envelope or {}).get("id") or self.entry.message.headers.get("id")
        with suppress(ValueError):
            return UUID(str(event_id))
        return None

    def copy(self, *, replayed: bool) -> Message:
        """Return a copy in the form of a new message; `replayed` marks the event as replayed."""
        headers: Mapping[Any, Any] = self.entry.message.headers
        properties = self.entry.message.properties
        body = self.body
        if replayed and self.envelope is not None:
            self.envelope["replayed"] = True
            # A payload that is nested too deeply remains unchanged, and the service rejects it.
            with suppress(RecursionError):
                body = msgspec.json.encode(self.payload)
        return Message(
            body,
            application_headers=task_headers(
                untrusted.text(headers.get("id")),
                untrusted.text(headers.get("task")),
                _text_or_none(headers.get("traceparent")),
            ),
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            **{
                name: properties[name]
                for name in ("message_id", "correlation_id", "type", "app_id")
                if name in properties
            },
        )


def _text_or_none(value: object) -> str | None:
    return None if value is None else untrusted.text(value)
