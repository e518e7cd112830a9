"""Kinds of hostile messages: the body, the call in the body, and the envelope in the call."""

import json
import random
from typing import Any

from testkit.wire.draft import Draft, kind
from testkit.wire.frames import long_string


@kind("a body that is not a call")
def _body(d: Draft) -> None:
    bodies = (b"", b"null", b"1", b'"x"', b"{}", b"[]", b"[1,2,3]", b"[[],{},{}]", b"[[],null,[]]")
    binary = (b"\xff\xfe\0", b"\xef\xbb\xbf[]", b"\0" * 100, b"\x80\x04.", b"1" * 10_000, b"-")
    d.body = d.rng.choice(bodies + binary)


@kind("a body of brackets")
def _brackets(d: Draft) -> None:
    d.body = d.choose(b"[", b'{"a":', b'[{"a":') * d.choose(500, 990, 1_000, 30_000)


@kind("a body that is cut or changed")
def _changed_body(d: Draft) -> None:
    body = bytearray(d.written()[1])
    for _ in range(d.rng.randint(1, 10)):
        body[d.rng.randrange(len(body))] = d.rng.randrange(256)
    d.body = bytes(body[: d.rng.randint(1, len(body))]) if d.rng.random() < 0.5 else bytes(body)


@kind("a deep unknown field")
def _deep_field(d: Draft) -> None:
    depth = d.rng.randint(300, 990)
    opening, closing = d.choose((b"[", b"]"), (b'{"a":', b"}"))
    deep = opening * depth + b"1" + closing * depth
    d.envelope["note"] = "@"
    if d.rng.random() < 0.5:
        d.envelope["data"] = d.envelope["data"] | {"note": d.envelope.pop("note")}
    d.body = d.written()[1].replace(b'"@"', deep)


@kind("something in the embed, or beside the event")
def _embed(d: Draft) -> None:
    deep = _deep(d.rng.randint(1, 300))
    where = d.choose("embed", "kwargs", "args", "more")
    if where == "embed":
        name = d.choose("chord", "chain", "callbacks", "errbacks", "more")
        d.embed[name] = d.choose([{"task": "order.created"}], deep, "x", 1, {})
    elif where == "args":
        d.args = [deep]
    else:
        d.kwargs = {"event" if where == "kwargs" else "more": d.choose(deep, 1, None, "x", [])}


@kind("an odd time")
def _time(d: Draft) -> None:
    d.envelope["time"] = d.choose(
        *("2026-11-22t17:37:02z", "2026-11-22 17:37:02Z", "0001-01-01T00:00:00+23:59"),
        *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        *("2026-11-22T23:59:60Z", "2026-11-22T17:37:02", "2026-11-22", "", 1_795_000_000, None),
        *("2026-11-22T17:37:02." + "9" * 30 + "Z", "-0001-01-01T00:00:00Z", "2026-11-22T24:00:00Z"),
    )


@kind("an odd attribute")
def _attribute(d: Draft) -> None:
    name = d.rng.choice([*d.envelope, "traceparent", "causationid", "replayed"])
    if name == "id":
        d.envelope[name] = d.choose(None, 5, "", "x", [], d.envelope["id"][:-1])
    else:
        d.envelope[name] = _odd(d.rng)


@kind("an odd field")
def _field(d: Draft) -> None:
    name = d.rng.choice([*d.envelope["data"]])
    d.envelope["data"] = d.envelope["data"] | {name: _odd(d.rng)}


@kind("an odd field within a list")
def _inner_field(d: Draft) -> None:
    data = json.loads(json.dumps(d.envelope["data"]))
    for value in data.values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value[0][d.rng.choice([*value[0]])] = _odd(d.rng)
    d.envelope["data"] = data


@kind("NUL and surrogates in a text")
def _odd_text(d: Draft) -> None:
    d.envelope["data"] = d.envelope["data"] | {"note": "@"}
    odd = d.choose(rb'"\u0000"', rb'"\ud800"', rb'"\udfff\ud800"', b'"\xed\xa0\x80"', b'"\0"')
    d.body = d.written()[1].replace(b'"@"', odd)


@kind("numbers without a limit")
def _numbers(d: Draft) -> None:
    odd = d.choose(b"9" * 5_000, b"1e400", b"-1e400", b"NaN", b"Infinity", b"0." + b"0" * 5_000)
    d.envelope["data"] = d.envelope["data"] | {"note": "@"}
    d.body = d.written()[1].replace(b'"@"', odd)


@kind("a large body")
def _large(d: Draft) -> None:
    size = d.choose(131_064, 131_065, 200_000, 255_000)
    where = d.choose("field", "space")
    if where == "field":
        d.envelope["note"] = "x" * (size - 1_000)
    else:
        d.body = d.written()[1].ljust(size)


@kind("an id in another form")
def _id_form(d: Draft) -> None:
    event_id = d.envelope["id"]
    forms = (event_id.upper(), f"{{{event_id}}}", f"urn:uuid:{event_id}", event_id.replace("-", ""))
    d.headers[b"id"] = long_string(d.rng.choice(forms).encode())


def _odd(rng: random.Random) -> Any:
    numbers = [0, -1, 1.5, 2**31, 2**63, -(2**63) - 1, 10**30, True, None]
    texts = ["", "x", "\x7f", "x" * 70_000, "\N{GRINNING FACE}", "EUR", "1", "\u202e"]
    return rng.choice([*numbers, *texts, [], {}, [[]], {"a": 1}, _deep(200)])


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
