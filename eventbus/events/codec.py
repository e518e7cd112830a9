"""Bytes to events and back: the only module that knows the wire format.

On the wire an event is a Celery protocol-2 message body `[[], {"event": <envelope>}, <embed>]`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from eventbus.errors import InvalidEvent
from eventbus.events.catalogue import current
from eventbus.events.envelope import Event
from eventbus.events.schema import Attributes, dataschema

#: The times that an event may have: what PostgreSQL and Python can both write and read in any zone.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

#: Characters of a foreign value that an error quotes.
_QUOTED = 100

_EMBED = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
_encoder = msgspec.json.Encoder()


class _Trace(msgspec.Struct):
    traceparent: str | None = None


class _Kind(msgspec.Struct):
    type: Any = None
    specversion: Any = None


class _Kwargs(msgspec.Struct):
    event: msgspec.Raw


class _Subject(msgspec.Struct):
    subject: UUID


class _About(msgspec.Struct):
    event: _Subject


_decode_trace = msgspec.json.Decoder(_Trace).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_body = msgspec.json.Decoder(tuple[list[msgspec.Raw], _Kwargs, dict[str, None]]).decode
_decode_about = msgspec.json.Decoder(tuple[Any, _About, Any]).decode


@cache
def _shapes() -> Mapping[str, type[msgspec.Struct]]:
    """Return each event type's envelope: one struct, so that an error names the whole path."""
    return {
        event_type: msgspec.defstruct(
            "_Envelope", [("data", contract)], bases=(Attributes,), kw_only=True
        )
        for event_type, contract in current().by_type.items()
    }


@cache
def _decoders() -> Mapping[str, Callable[[msgspec.Raw], msgspec.Struct]]:
    return {name: msgspec.json.Decoder(shape).decode for name, shape in _shapes().items()}


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


def decode(envelope: dict[str, Any]) -> Event:
    """Return the event in an envelope that was parsed from JSON.

    Unknown fields are ignored, so that a publisher may add some. Raises `InvalidEvent`, naming
    the path of the first wrong field.
    """
    return _event(envelope, _Kind(envelope.get("type"), envelope.get("specversion")))


def read(body: bytes | str) -> Event:
    """Return the event that a message's body carries, whatever else the bytes may be.

    Each byte is parsed in here and nowhere else. Raises `InvalidEvent`, with the reason.
    """
    if (b"\\u0000" if isinstance(body, bytes) else "\\u0000") in body:  # type: ignore[operator]
        raise InvalidEvent("body contains NUL, which PostgreSQL cannot store")
    try:
        args, kwargs, _ = _decode_body(body)
        envelope = kwargs.event
        kind = _decode_kind(envelope)
    except msgspec.DecodeError as error:
        raise InvalidEvent(f"body is not a plain call with an event: {error}") from None
    except (RecursionError, UnicodeError) as error:
        raise InvalidEvent(f"undecodable: {type(error).__name__}") from None
    if args:
        raise InvalidEvent("body has positional arguments")
    return _event(envelope, kind)


def subject(body: bytes | str) -> str | None:
    """Return the id of the subject in a message body, or None if the body has none."""
    try:
        return str(_decode_about(body)[1].event.subject)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _event(envelope: dict[str, Any] | msgspec.Raw, kind: _Kind) -> Event:
    shape = _shapes().get(kind.type) if isinstance(kind.type, str) else None
    if shape is None:
        raise InvalidEvent(f"unknown event type {_quoted(kind.type)}")
    if kind.specversion != "1.0":
        raise InvalidEvent(f"specversion is {_quoted(kind.specversion)}, not '1.0'")
    try:
        if isinstance(envelope, dict):
            found = msgspec.convert(envelope, shape)
        else:
            found = _decoders()[kind.type](envelope)
        event = Event(**msgspec.structs.asdict(found))
    except msgspec.DecodeError as error:
        raise InvalidEvent(str(error)) from None
    except (RecursionError, UnicodeError) as error:
        raise InvalidEvent(f"undecodable: {type(error).__name__}") from None
    if not _EARLIEST <= event.time <= _LATEST:
        raise InvalidEvent("time is out of range - at `$.time`")
    return event


def _quoted(value: object) -> str:
    # The representation of a nested value may itself exceed Python's recursion limit.
    return repr(value[:_QUOTED]) if isinstance(value, str) else f"a {type(value).__name__}"


def traceparent(envelope: str) -> str | None:
    """Return the `traceparent` of an envelope as JSON, without a look at the rest."""
    return _decode_trace(envelope).traceparent


def wrap(envelope: bytes) -> bytes:
    """Return the message body that carries an envelope: a call of the Celery task of its type."""
    return b'[[],{"event":' + envelope + b"}," + _EMBED + b"]"
