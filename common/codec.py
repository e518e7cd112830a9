"""Bytes to events and back: the only module that knows how an event looks on the wire.

On the wire an event is a Celery protocol-2 message body `[[], {"event": <envelope>}, <embed>]`.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from common.errors import InvalidEvent
from common.events import EVENTS, Event


class _Attributes(msgspec.Struct, kw_only=True):
    id: UUID
    source: str
    subject: UUID
    sequence: Annotated[int, msgspec.Meta(ge=1)]
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    traceparent: str | None = None
    causationid: UUID | None = None


#: Event type to the shape of its envelope: in one piece, so that an error tells the whole path.
_ENVELOPES = {
    event_type: msgspec.defstruct(
        "_Envelope", [("data", contract)], bases=(_Attributes,), kw_only=True
    )
    for event_type, contract in EVENTS.items()
}
_EMBED = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
_encoder = msgspec.json.Encoder()


class _Trace(msgspec.Struct):
    traceparent: str | None = None


_decode_trace = msgspec.json.Decoder(_Trace).decode


def encode(event: Event) -> bytes:
    """Return the envelope as JSON."""
    envelope = {
        "specversion": "1.0",
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "time": event.time,
        "sequence": event.sequence,
        "datacontenttype": "application/json",
        "dataschema": dataschema(event.type),
        "traceparent": event.traceparent,
        "causationid": event.causationid,
        "data": event.data,
    }
    # CloudEvents: an attribute without a value is left out.
    return _encoder.encode({name: value for name, value in envelope.items() if value is not None})


def dataschema(event_type: str) -> str:
    """Return the URI that names the schema of an event type's data."""
    return f"urn:order-system:event:{event_type}"


def decode(envelope: dict[str, Any]) -> Event:
    """Return the event in an envelope that was parsed from JSON.

    Unknown fields are ignored, so that a publisher may add some. Raises `InvalidEvent`, naming
    the path of the first wrong field.
    """
    shape = _ENVELOPES.get(str(envelope.get("type")))
    if shape is None:
        raise InvalidEvent(f"unknown event type {envelope.get('type')!r}")
    if envelope.get("specversion") != "1.0":
        raise InvalidEvent(f"specversion is {envelope.get('specversion')!r}, not '1.0'")
    try:
        return Event(**msgspec.structs.asdict(msgspec.convert(envelope, shape)))
    except msgspec.ValidationError as error:
        raise InvalidEvent(str(error)) from None


def traceparent(envelope: str) -> str | None:
    """Return the `traceparent` of an envelope as JSON, without a look at the rest."""
    return _decode_trace(envelope).traceparent


def wrap(envelope: bytes) -> bytes:
    """Return the message body that carries an envelope: a call of the Celery task of its type."""
    return b'[[],{"event":' + envelope + b"}," + _EMBED + b"]"


def json_schema(event_type: str) -> dict[str, Any]:
    """Return the JSON Schema of an event type's data."""
    return msgspec.json.schema(EVENTS[event_type])
