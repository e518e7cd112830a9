"""Conversion of OTLP/HTTP requests to rows."""

import base64
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from common.events import CATALOGUE
from eventbus.errors import ExpectedError

#: Maximum size of a request after decompression, in bytes, so that a small request cannot exhaust
#: the memory.
SIZE_LIMIT = 16 * 1024 * 1024

#: Maximum number of characters of an order's id that are stored for the search. PostgreSQL does not
#: index long texts.
_ORDER_ID_LIMIT = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]


class Unreadable(ExpectedError):
    """The request is not valid OTLP."""


def rows(body: bytes, *, gzip: bool) -> list[Row]:
    """Return a row for each span of a request. Raises `Unreadable` with the reason."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(_inflated(body) if gzip else body)
    except DecodeError:
        raise Unreadable("the body is not an ExportTraceServiceRequest") from None
    return [
        _row(span, str(_values(resource.resource.attributes).get("service.name", "unknown")))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in _checked(scope.spans)
    ]


def _inflated(body: bytes) -> bytes:
    # Adding 16 restricts the decompressor to the gzip format.
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        inflated = inflate.decompress(body, SIZE_LIMIT)
    except zlib.error:
        raise Unreadable("the body is not compressed with gzip") from None
    if not inflate.eof:
        raise Unreadable(f"the body is truncated or larger than {SIZE_LIMIT} bytes")
    return inflated


def _checked(spans: Any) -> Iterator[Span]:
    for span in spans:
        if len(span.trace_id) != 16 or len(span.span_id) != 8:
            raise Unreadable("a span must have a trace_id of 16 bytes and a span_id of 8 bytes")
        yield span


def _row(span: Span, service: str) -> Row:
    attributes = _values(span.attributes)
    order_id = attributes.get(CATALOGUE.id_attribute)
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex() or None,
        "service": service,
        "name": _text(span.name),
        "kind": _name(Span.SpanKind, span.kind).removeprefix("SPAN_KIND_").lower(),
        "started_at": _time(span.start_time_unix_nano),
        "microseconds": max(0, span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
        "status": _name(Status.StatusCode, span.status.code).removeprefix("STATUS_CODE_").lower(),
        "reason": _text(span.status.message) or None,
        "order_id": str(order_id)[:_ORDER_ID_LIMIT] if order_id else None,
        "attributes": attributes,
    }


def _name(kinds: Any, number: int) -> str:
    """Return the name of a value. A value of a later version of OTLP counts as the default, 0."""
    return str(kinds.Name(number if number in kinds.values() else 0))


def _time(nanoseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        raise Unreadable("a span's time is out of range") from None


def _values(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {_text(pair.key): _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _values(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value":
            # JSON has neither NaN nor infinity.
            return str(value.double_value)
        case "string_value":
            return _text(value.string_value)
        case None:
            return None
        case kind:
            return getattr(value, kind)


def _text(value: str) -> str:
    # PostgreSQL cannot store NUL.
    return value.replace("\x00", "")
