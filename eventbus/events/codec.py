"""Encoding and decoding of events. Only this module depends on the wire format.

On the wire an event is a Celery protocol-2 message body `[[], {"event": <envelope>}, <embed>]`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from eventbus.errors import InvalidEvent
from eventbus.events.catalogue import current
from eventbus.events.envelope import Event
from eventbus.events.limits import INTEGER, check_number, check_text
from eventbus.events.schema import Attributes, dataschema

#: The earliest and the latest time of an event that PostgreSQL and Python can read and write in any
#: time zone.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

#: The largest sequence: as in the CloudEvents extension `sequence`, a signed 32-bit integer.
LARGEST_SEQUENCE = INTEGER

#: Maximum length of a source, in characters.
_SOURCE_LIMIT = 255

#: Maximum number of characters that an error message quotes from an untrusted value.
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


class _SubjectKwargs(msgspec.Struct):
    event: _Subject


class Position(msgspec.Struct, frozen=True):
    """The position of an event among those of its subject and source; all values can be stored."""

    id: UUID
    source: Annotated[str, Meta(max_length=_SOURCE_LIMIT)]
    subject: UUID
    sequence: Annotated[int, Meta(ge=1, le=LARGEST_SEQUENCE)]


class _PositionKwargs(msgspec.Struct):
    event: Position


_decode_trace = msgspec.json.Decoder(_Trace).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_body = msgspec.json.Decoder(tuple[list[msgspec.Raw], _Kwargs, dict[str, None]]).decode
_decode_subject = msgspec.json.Decoder(tuple[Any, _SubjectKwargs, Any]).decode
_decode_position = msgspec.json.Decoder(tuple[Any, _PositionKwargs, Any]).decode


@cache
def _structs() -> Mapping[str, type[msgspec.Struct]]:
    """Return the envelope of each event type as one struct, so errors name the full path."""
    return {
        event_type: msgspec.defstruct(
            "_Envelope", [("data", contract)], bases=(Attributes,), kw_only=True
        )
        for event_type, contract in current().by_type.items()
    }


@cache
def _decoders() -> Mapping[str, Callable[[msgspec.Raw], msgspec.Struct]]:
    return {name: msgspec.json.Decoder(struct).decode for name, struct in _structs().items()}


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
    # CloudEvents omits attributes without a value.
    return _encoder.encode({name: value for name, value in envelope.items() if value is not None})


def decode(envelope: dict[str, Any]) -> Event:
    """Return the event in an envelope that was parsed from JSON.

    Unknown fields are ignored, so a publisher may add fields. Raises `InvalidEvent` with the path
    of the first invalid field.
    """
    return _event(envelope, _Kind(envelope.get("type"), envelope.get("specversion")))


def read(body: bytes | str) -> Event:
    """Return the event in a message's body, which may be arbitrary bytes.

    Message bodies are parsed only in this module. Raises `InvalidEvent` with the reason.
    """
    if _contains_nul(body):
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
    """Return the id of the subject in a message body, or None."""
    try:
        return str(_decode_subject(body)[1].event.subject)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def position(body: bytes | str) -> Position | None:
    """Return the position of the event in a message body, even of an invalid event, or None."""
    if _contains_nul(body):
        return None
    try:
        return _decode_position(body)[1].event
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _contains_nul(body: bytes | str) -> bool:
    # PostgreSQL cannot store a NUL character, which is always escaped in JSON.
    return (b"\\u0000" if isinstance(body, bytes) else "\\u0000") in body  # type: ignore[operator]


def _event(envelope: dict[str, Any] | msgspec.Raw, kind: _Kind) -> Event:
    struct = _structs().get(kind.type) if isinstance(kind.type, str) else None
    if struct is None:
        raise InvalidEvent(f"unknown event type {_quoted(kind.type)}")
    if kind.specversion != "1.0":
        raise InvalidEvent(f"specversion is {_quoted(kind.specversion)}, not '1.0'")
    try:
        if isinstance(envelope, dict):
            decoded = msgspec.convert(envelope, struct)
        else:
            decoded = _decoders()[kind.type](envelope)
        event = Event(**msgspec.structs.asdict(decoded))
    except msgspec.DecodeError as error:
        raise InvalidEvent(str(error)) from None
    except (RecursionError, UnicodeError) as error:
        raise InvalidEvent(f"undecodable: {type(error).__name__}") from None
    if not _EARLIEST <= event.time <= _LATEST:
        raise InvalidEvent("time is out of range - at `$.time`")
    check_number("sequence", event.sequence, 1, LARGEST_SEQUENCE)
    check_text("source", event.source, _SOURCE_LIMIT)
    return event


def _quoted(value: object) -> str:
    # The `repr` of a nested value may itself exceed Python's recursion limit.
    return repr(value[:_QUOTED]) if isinstance(value, str) else f"a {type(value).__name__}"


def traceparent(envelope: str) -> str | None:
    """Return the `traceparent` of an envelope in JSON, without decoding the rest."""
    return _decode_trace(envelope).traceparent


def wrap(envelope: bytes) -> bytes:
    """Return the message body with an envelope: a call to the Celery task of its event type."""
    return b'[[],{"event":' + envelope + b"}," + _EMBED + b"]"
