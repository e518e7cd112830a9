"""Properties, headers and frames of AMQP 0-9-1 in any shape, as bytes."""

from collections.abc import Iterable, Mapping
from struct import pack

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"

#: Number of bytes of a frame in addition to its payload.
OVERHEAD = 8

#: Properties of class basic, in the order of their flags, as on the wire.
PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)

#: A header: the name, and the value with its type, as bytes on the wire.
Header = tuple[bytes, bytes]


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return a frame."""
    return pack(">BHI", kind, channel, len(payload)) + payload + END


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """Return the frame of a method."""
    return frame(METHOD, channel, pack(">HH", class_id, method_id) + arguments)


def publication(
    exchange: bytes, key: bytes, properties: bytes, body: bytes, *, channel: int, frame_max: int
) -> bytes:
    """Return the frames that publish a message; `properties` are flags and values."""
    arguments = pack(">H", 0) + short_string(exchange) + short_string(key) + b"\0"
    room = frame_max - OVERHEAD
    return b"".join(
        (
            method(channel, 60, 40, arguments),
            frame(HEADER, channel, pack(">HHQ", 60, 0, len(body)) + properties),
            *(
                frame(BODY, channel, body[start : start + room])
                for start in range(0, len(body), room)
            ),
        )
    )


def properties(**values: bytes) -> bytes:
    """Return flags and values of properties, each value as bytes on the wire."""
    flags = sum(0x8000 >> index for index, name in enumerate(PROPERTIES) if name in values)
    return pack(">H", flags) + b"".join(values[name] for name in PROPERTIES if name in values)


def short_string(text: bytes) -> bytes:
    """Return a short string, at most 255 bytes."""
    return bytes([len(text)]) + text


def long_string(text: bytes) -> bytes:
    """Return a header's value: a string."""
    return b"S" + pack(">I", len(text)) + text


def integer(value: int) -> bytes:
    """Return a header's value: a signed integer of 64 bits."""
    return b"l" + pack(">q", value)


def timestamp(seconds: int) -> bytes:
    """Return a header's value: a timestamp of 64 bits."""
    return b"T" + pack(">Q", seconds % 2**64)


def array(values: Iterable[bytes]) -> bytes:
    """Return a header's value: an array."""
    data = b"".join(values)
    return b"A" + pack(">I", len(data)) + data


def table(headers: Mapping[bytes, bytes] | Iterable[Header]) -> bytes:
    """Return a table, in the form of the property `headers`."""
    items = headers.items() if isinstance(headers, Mapping) else headers
    data = b"".join(short_string(name) + value for name, value in items)
    return pack(">I", len(data)) + data


def nested(depth: int, *, tables: bool = False, inside: bytes = b"V") -> bytes:
    """Return a header's value: nested arrays, or tables."""
    value = inside
    for _ in range(depth):
        value = b"F" + table([(b"x", value)]) if tables else array([value])
    return value


def take(buffer: bytearray) -> tuple[int, int, bytes] | None:
    """Remove and return the first frame (type, channel, payload), or None if it is incomplete."""
    size = int.from_bytes(buffer[3:7], "big")
    if len(buffer) < size + OVERHEAD:
        return None
    first = buffer[0], int.from_bytes(buffer[1:3], "big"), bytes(buffer[7 : 7 + size])
    del buffer[: size + OVERHEAD]
    return first
