"""An event of the past, from the stream, and the message that brings it to a service once more."""

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

#: As `eventbus.events.codec` reads it.
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class PastEvent:
    """A message of the stream as an event; whatever is none is for its service to refuse."""

    entry: Entry
    body: bytes
    payload: Any
    envelope: dict[str, Any] | None

    @classmethod
    def of(cls, entry: Entry) -> "PastEvent":
        """Return what a message tells."""
        raw = entry.message.body
        body = raw.encode() if isinstance(raw, str) else bytes(raw)
        payload = untrusted.decoded(body)
        with suppress(LookupError, TypeError):
            if isinstance(envelope := payload[1]["event"], dict):
                return cls(entry, body, payload, envelope)
        return cls(entry, body, None, None)

    @property
    def time(self) -> datetime | None:
        """When it happened, if it says so."""
        with suppress(msgspec.ValidationError, OverflowError):
            time = msgspec.convert((self.envelope or {}).get("time"), _Time)
            return time.astimezone(UTC)
        return None

    @property
    def id(self) -> UUID | None:
        """Its dedup key, if it has one."""
        found = (self.envelope or {}).get("id") or self.entry.message.headers.get("id")
        with suppress(ValueError):
            return UUID(str(found))
        return None

    def copy(self, *, replayed: bool) -> Message:
        """Return it once more, as if it came just now; one that is replayed says so."""
        headers: Mapping[Any, Any] = self.entry.message.headers
        properties = self.entry.message.properties
        body = self.body
        if replayed and self.envelope is not None:
            self.envelope["replayed"] = True
            # What is nested too deep for this stays as it is, for its service to refuse.
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
