"""Bytes to events and back: the only module that knows how an event looks on the wire.

On the wire an event is a Celery protocol-2 message body `[[], {"event": <envelope>}, <embed>]`.
"""

from datetime import UTC, datetime
from inspect import cleandoc
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from common.errors import InvalidEvent
from common.events import EVENTS, Event


class _Attributes(msgspec.Struct, kw_only=True):
    id: Annotated[UUID, Meta(description="Of this event, version 7; the dedup key.")]
    source: Annotated[str, Meta(description="The service that says it.")]
    subject: Annotated[UUID, Meta(description="The order's id.")]
    sequence: Annotated[
        int, Meta(ge=1, description="Counts the events of one order from one source.")
    ]
    time: Annotated[datetime, Meta(tz=True, description="When it happened, in UTC.")]
    traceparent: Annotated[
        str | None, Meta(description="W3C trace context of the request that began it all.")
    ] = None
    causationid: Annotated[UUID | None, Meta(description="The event that this one answers.")] = None
    replayed: Annotated[
        bool, Meta(description="Told again, from history: whoever it is news for has had it.")
    ] = False


class Envelope(_Attributes, kw_only=True):
    """A CloudEvents 1.0 envelope in JSON; attributes without a value are left out."""

    specversion: Annotated[Literal["1.0"], Meta(description="The version of CloudEvents.")]
    type: Annotated[str, Meta(description="The event type; also the routing key.")]
    datacontenttype: Annotated[Literal["application/json"], Meta(description="The data's form.")]
    dataschema: Annotated[str, Meta(description="`urn:order-system:event:<type>`.")]
    data: Annotated[dict[str, Any], Meta(description="What this type of event says.")]


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
        "replayed": event.replayed or None,
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
        event = Event(**msgspec.structs.asdict(msgspec.convert(envelope, shape)))
        # In year 0 or 10000 of UTC a database could store it, and Python not read it back.
        event.time.astimezone(UTC)
    except msgspec.ValidationError as error:
        raise InvalidEvent(str(error)) from None
    except OverflowError:
        raise InvalidEvent("Time is out of range in UTC - at `$.time`") from None
    return event


def traceparent(envelope: str) -> str | None:
    """Return the `traceparent` of an envelope as JSON, without a look at the rest."""
    return _decode_trace(envelope).traceparent


def wrap(envelope: bytes) -> bytes:
    """Return the message body that carries an envelope: a call of the Celery task of its type."""
    return b'[[],{"event":' + envelope + b"}," + _EMBED + b"]"


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each event type's data, and of the `envelope` around it."""
    shapes: dict[str, Any] = {"envelope": Envelope, **EVENTS}
    return {name: _read_again(msgspec.json.schema(shape)) for name, shape in shapes.items()}


def definitions(ref_template: str) -> dict[str, Any]:
    """Return what all the schemas are made of, for one document that holds it together."""
    shapes = (Envelope, *EVENTS.values())
    _, found = msgspec.json.schema_components(shapes, ref_template=ref_template)
    whole: dict[str, Any] = _read_again({"$defs": found})["$defs"]
    return whole


def _read_again(schema: dict[str, Any]) -> dict[str, Any]:
    # As it looks once it was written and read: a list for a tuple.
    again: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    for shape in again["$defs"].values():
        # Python before 3.13 leaves the indentation in a docstring.
        shape["description"] = cleandoc(shape["description"])
    return again
