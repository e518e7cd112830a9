"""Kinds of hostile messages: their properties and headers."""

import random
import zlib
from collections.abc import Callable
from functools import cache
from struct import pack
from typing import Any

from testkit.wire.draft import Draft, kind
from testkit.wire.frames import (
    array,
    integer,
    long_string,
    nested,
    short_string,
    table,
    timestamp,
)

#: Number of bytes of a frame that are available for headers.
FRAME_ROOM = 131_072 - 1_000

#: Maximum number of items in a table. RabbitMQ 3.10 needs a gigabyte for a few tables of 100,000
#: items, and then blocks all publishers.
ITEMS = 3_000


@kind("a header's time is out of Python's range")
def _time_header(d: Draft) -> None:
    d.headers[b"sent_at"] = timestamp(d.choose(1_795_000_000_000, -1, 2**63, 253_402_300_800))


@kind("a time within a nested header")
def _deep_time_header(d: Draft) -> None:
    d.headers[b"x"] = nested(d.rng.randint(1, 20), tables=True, inside=timestamp(-1))


@kind("a property that is not UTF-8")
def _property_bytes(d: Draft) -> None:
    name = d.choose("content_type", "content_encoding", "message_id", "type", "app_id")
    name = d.choose(name, "correlation_id", "reply_to", "cluster_id")
    d.properties[name] = short_string(d.choose(b"\xff", b"\xc3", b"\xfe\xff\0", b"ok\x80"))


@kind("a property with odd characters")
def _property_text(d: Draft) -> None:
    name = d.choose("message_id", "type", "app_id", "correlation_id", "reply_to")
    odd = d.choose(b"\0", b"\xed\xa0\x80", b"\x1b[2J", b"\n\r\n", b"\xe2\x80\xae", b"x" * 255, b"")
    d.properties[name] = short_string(odd)


@kind("a property's number at its limit")
def _property_number(d: Draft) -> None:
    name, values = d.choose(
        ("timestamp", (b"\xff" * 8, pack(">Q", 1_795_000_000_000), pack(">Q", 0))),
        ("priority", (b"\xff", b"\0", b"\x09")),
        ("delivery_mode", (b"\1", b"\2")),
    )
    d.properties[name] = d.rng.choice(values)


@kind("a header name that is not UTF-8")
def _name_bytes(d: Draft) -> None:
    d.headers[d.choose(b"\xff", b"", b"\xed\xa0\x80", b"x-\xff", b"\0", b"n" * 255)] = integer(1)


@kind("a header value that is not UTF-8")
def _value_bytes(d: Draft) -> None:
    name = d.choose(b"task", b"id", b"lang", b"traceparent", b"x-failure-text", b"argsrepr")
    d.headers[name] = long_string(d.choose(b"\xff\xfe", b"\xed\xa0\x80", b"\0\0", b"\x1b]0;x\7"))


@kind("nested headers")
def _nested_headers(d: Draft) -> None:
    depth = d.choose(33, 100, 500, 900, 950, 990, 2_000)
    d.headers[b"deep"] = nested(depth, tables=d.rng.random() < 0.5)


@kind("headers near a frame's limit")
def _large_headers(d: Draft) -> None:
    size = d.rng.randint(50_000, FRAME_ROOM - 1_000)
    how = d.choose("one", "many", "array")
    if how == "one":
        d.headers[b"padding"] = long_string(b"x" * size)
    elif how == "many":
        d.headers |= {b"%x" % n: b"V" for n in range(ITEMS)}
    else:
        d.headers[b"padding"] = array([b"V"] * ITEMS)


@kind("a header of the consumer has another type")
def _header_type(d: Draft) -> None:
    name = d.choose(b"task", b"id", b"retries", b"traceparent", b"lang", b"root_id")
    d.headers[name] = _any_value(d.rng)


@kind("retries are out of range")
def _retries(d: Draft) -> None:
    value = d.choose(-1, 2**63 - 1, -(2**63), 10**6, 99)
    d.headers[b"retries"] = integer(value)


@kind("a header that controls Celery")
def _steering(d: Draft) -> None:
    name = d.choose(b"eta", b"expires", b"timelimit", b"group", b"shadow", b"stamped_headers")
    texts = (b"2090-01-01T00:00:00", b"x", b"")
    d.headers[name] = d.choose(_any_value(d.rng), long_string(d.rng.choice(texts)))


@kind("forged headers of the broker")
def _forged(d: Draft) -> None:
    d.headers[b"x-death"] = d.choose(
        _any_value(d.rng),
        array([b"F" + table({b"queue": long_string(b"inventory.queue"), b"time": integer(1)})]),
        array([b"F" + table({b"count": _any_value(d.rng), b"reason": _any_value(d.rng)})]),
    )
    name = d.choose(b"x-stream-offset", b"x-acquired-count", b"x-first-death-queue")
    d.headers[name] = _any_value(d.rng)


@kind("a forged failure")
def _failure(d: Draft) -> None:
    names = ("service", "exception", "text", "attempts", "first-at", "last-at", "release")
    d.headers |= {f"x-failure-{name}".encode(): _any_value(d.rng) for name in names}
    d.headers[b"x-failure-attempts"] = d.choose(integer(2**63 - 1), integer(-5), integer(3))
    d.headers[b"x-failure-first-at"] = long_string(b"0001-01-01T00:00:00+23:59")


@kind("forged notes of the guard")
def _forged_notes(d: Draft) -> None:
    d.headers[b"x-unreadable"] = _any_value(d.rng)
    d.headers[b"unreadable-properties"] = _any_value(d.rng)


@kind("every type of header")
def _all_types(d: Draft) -> None:
    d.headers |= {b"type %d" % n: _any_value(d.rng) for n in range(30)}


@kind("compression")
def _compression(d: Draft) -> None:
    name = d.choose(b"application/x-gzip", b"gzip", b"zlib", b"bzip2", b"lzma", b"unknown", b"\xff")
    d.headers[b"compression"] = long_string(name)
    d.body = d.choose(b"not compressed", _bomb())


@kind("an encoding that is expensive, or none")
def _encoding(d: Draft) -> None:
    names = (b"punycode", b"idna", b"unicode_escape", b"utf-7", b"utf-16", b"rot13", b"binary")
    d.properties["content_encoding"] = short_string(d.rng.choice((*names, b"unknown", b"\0", b"")))
    d.body = d.choose(d.written()[1], b"-" + b"a9" * 40_000)


@kind("a content type that is not JSON")
def _content_type(d: Draft) -> None:
    names = (b"application/x-python-serialize", b"application/x-yaml", b"text/plain", b"", b"\0")
    d.properties["content_type"] = short_string(d.rng.choice(names))


@kind("an expiration")
def _expiration(d: Draft) -> None:
    d.properties["expiration"] = short_string(d.choose(b"0", b"1", b"1000", b"4294967295"))


@cache
def _bomb() -> bytes:
    return zlib.compress(b"0" * 50_000_000, 9)


def _any_value(rng: random.Random) -> bytes:
    """Return any value of a header that the broker accepts."""
    fixed = {"b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "D": 5, "T": 8, "L": 8}
    kind = rng.choice([*fixed, "t", "V", "S", "x", "A", "F", "d", "f"])
    if kind in fixed:
        return kind.encode() + rng.randbytes(fixed[kind])
    others: dict[str, Callable[[], Any]] = {
        "t": lambda: b"t" + bytes([rng.randrange(2)]),
        "V": lambda: b"V",
        "S": lambda: b"S" + _bytes(rng),
        "x": lambda: b"x" + _bytes(rng),
        "A": lambda: array([_any_value(rng) for _ in range(rng.randrange(3))]),
        "F": lambda: b"F" + table({b"x": _any_value(rng)}),
        # NaN is excluded: Erlang has no NaN, so the broker closes the connection of its publisher.
        "d": lambda: b"d" + pack(">d", rng.uniform(-1e300, 1e300)),
        "f": lambda: b"f" + pack(">f", rng.uniform(-1e30, 1e30)),
    }
    return bytes(others[kind]())


def _bytes(rng: random.Random) -> bytes:
    data = rng.randbytes(rng.choice([0, 1, 30]))
    return pack(">I", len(data)) + data
