"""Extraction of a message's readable properties from the bytes of its content header.

If py-amqp cannot parse a content header, it raises: a timestamp after the year 9999, a byte that is
not UTF-8 or a deeply nested table ends the connection of the process that receives the message. The
layout is defined in AMQP 0-9-1, section 4.2.6.1.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from amqp import Message
from amqp.serialization import dumps, loads

#: The header that names the properties and headers that were omitted.
PROBLEM = "x-unreadable"

#: The header with the original bytes: flags, then properties. Its name does not start with `x-`, so
#: a copy in a parking lot keeps it.
ORIGINAL = "unreadable-properties"

#: Headers that the broker adds. Its value comes before values that the publisher has sent with the
#: same name, of which py-amqp would return the last.
BROKER_HEADERS = ("x-stream-offset", "x-delivery-count", "x-acquired-count")

#: Maximum nesting of tables and arrays in a header. The broker's `x-death` has three levels.
DEPTH_LIMIT = 32

#: Maximum length of `PROBLEM`, in characters.
_PROBLEM_LIMIT = 500

#: Number of bytes before the properties: class, weight and body size.
_PREFIX = 12

_FLAGS, _LENGTH = Struct(">H"), Struct(">I")

#: Number of bytes of a header's value after its type, for each type of fixed length.
_SIZES = (
    dict.fromkeys(b"V", 0)
    | dict.fromkeys(b"bBt", 1)
    | dict.fromkeys(b"sUu", 2)
    | dict.fromkeys(b"Iif", 4)
    | dict.fromkeys(b"D", 5)
    | dict.fromkeys(b"lLdT", 8)
)
_TABLE, _ARRAY = b"FA"
_LONG = frozenset(b"SxFA")

_HEADERS = "application_headers"
_BROKER_HEADERS = tuple(name.encode() for name in BROKER_HEADERS)


class _Header(NamedTuple):
    """An item of the table of headers: its name, its bytes, and the index of its type in them."""

    name: str
    data: bytes
    type_at: int


def is_readable(content_header: bytes) -> bool:
    """Return whether py-amqp can parse a content header."""
    try:
        Message().inbound_header(content_header)
    except Exception:
        return False
    return True


def may_repeat(content_header: bytes) -> bool:
    """Return whether a content header may repeat a header that the broker adds."""
    return any(content_header.count(name) > 1 for name in _BROKER_HEADERS)


def readable(content_header: bytes) -> bytes:
    """Return a content header without the parts that cannot be trusted.

    These are unparsable parts, parts nested beyond `DEPTH_LIMIT`, and repetitions of a header that
    the broker adds. If there are none, the bytes are unchanged; otherwise the headers `PROBLEM` and
    `ORIGINAL` are added.
    """
    problems: list[str] = []
    properties = _properties(content_header, problems)
    if not problems:
        return content_header
    original = content_header[_PREFIX:]
    notes = dumps("F", [{PROBLEM: "; ".join(problems)[:_PROBLEM_LIMIT], ORIGINAL: original}])
    headers = properties.get(_HEADERS, b"")[_LENGTH.size :] + notes[_LENGTH.size :]
    properties[_HEADERS] = _LENGTH.pack(len(headers)) + headers
    present = [(bit, name) for bit, name, _ in _layout() if name in properties]
    flags = _FLAGS.pack(sum(bit for bit, _ in present))
    return b"".join((content_header[:_PREFIX], flags, *(properties[name] for _, name in present)))


def _layout() -> Iterator[tuple[int, str, str]]:
    """Yield the flag, name and type of each property, in wire order."""
    for index, (name, kind) in enumerate(Message.PROPERTIES):
        yield 0x8000 >> index, name, kind


def _properties(content_header: bytes, problems: list[str]) -> dict[str, bytes]:
    """Return the bytes of each readable property."""
    properties: dict[str, bytes] = {}
    (flags,) = _FLAGS.unpack_from(content_header, _PREFIX)
    start = _PREFIX + _FLAGS.size
    for bit, name, kind in _layout():
        if not flags & bit:
            continue
        try:
            end = _end_of_property(kind, content_header, start)
        except ValueError as error:
            # The start of the next property is unknown.
            problems.append(f"property {name}: {error}")
            break
        data, start = content_header[start:end], end
        if kind == "F":
            properties[name] = _readable_table(data, problems)
        elif problem := _problem(kind, data):
            problems.append(f"property {name}: {problem}")
        else:
            properties[name] = data
    return properties


def _readable_table(table: bytes, problems: list[str]) -> bytes:
    readable_headers = []
    names = list[str]()
    try:
        for header in _headers(table):
            is_repeated = header.name in BROKER_HEADERS and header.name in names
            names.append(header.name)
            if problem := "repeated" if is_repeated else _header_problem(header):
                problems.append(f"header {header.name}: {problem}")
            else:
                readable_headers.append(header.data)
    except ValueError as error:
        problems.append(f"headers: {error}")
    return _LENGTH.pack(sum(map(len, readable_headers))) + b"".join(readable_headers)


def _headers(table: bytes) -> Iterator[_Header]:
    start = _LENGTH.size
    while start < len(table):
        type_at = _end_of_short_string(table, start)
        end = _end_of_value(table, type_at)
        name = table[start + 1 : type_at].decode(errors="backslashreplace")
        yield _Header(name, table[start:end], type_at - start)
        start = end


def _header_problem(header: _Header) -> str | None:
    try:
        if _depth(header.data, header.type_at) > DEPTH_LIMIT:
            return f"nested beyond {DEPTH_LIMIT} levels"
    except ValueError as error:
        return str(error)
    return _problem("F", _LENGTH.pack(len(header.data)) + header.data)


def _problem(kind: str, data: bytes) -> str | None:
    """Return why py-amqp cannot parse a value, or None."""
    try:
        loads(kind, data, 0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _depth(data: bytes, type_at: int) -> int:
    """Return the nesting depth of tables and arrays in a value, without recursion."""
    deepest, open_ends = 0, list[tuple[int, bool]]()
    offset, in_table = type_at, False
    while True:
        if in_table:
            offset = _end_of_short_string(data, offset)
        kind, end = data[offset], _end_of_value(data, offset)
        if kind in (_TABLE, _ARRAY):
            open_ends.append((end, kind == _TABLE))
            deepest = max(deepest, len(open_ends))
            offset += 1 + _LENGTH.size
        else:
            offset = end
        while open_ends and offset >= open_ends[-1][0]:
            open_ends.pop()
        if not open_ends:
            return deepest
        in_table = open_ends[-1][1]


def _end_of_property(kind: str, data: bytes, start: int) -> int:
    if kind == "s":
        return _end_of_short_string(data, start)
    if kind == "F":
        return _end_of_long_value(data, start)
    return _within(data, start + (8 if kind == "L" else 1))


def _end_of_value(data: bytes, type_at: int) -> int:
    """Return the end of a header's value, whose first byte is its type."""
    _within(data, type_at + 1)
    if data[type_at] in _LONG:
        return _end_of_long_value(data, type_at + 1)
    if (size := _SIZES.get(data[type_at])) is None:
        raise ValueError(f"unknown type {data[type_at : type_at + 1]!r}")
    return _within(data, type_at + 1 + size)


def _end_of_long_value(data: bytes, start: int) -> int:
    _within(data, start + _LENGTH.size)
    return _within(data, start + _LENGTH.size + int(_LENGTH.unpack_from(data, start)[0]))


def _end_of_short_string(data: bytes, start: int) -> int:
    _within(data, start + 1)
    return _within(data, start + 1 + data[start])


def _within(data: bytes, end: int) -> int:
    if end > len(data):
        raise ValueError("truncated")
    return end
