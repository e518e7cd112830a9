"""Untrusted values can be printed, stored, compared and published again."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from amqp import Message as AmqpMessage
from hypothesis import given
from hypothesis import strategies as st
from kombu.message import Message

from common.kombu_topology import INVENTORY
from console.broker.parked_message import Parked, event_id, event_time
from console.web.readable import moment
from eventbus.catch_up.past_event import PastEvent
from eventbus.consumer.cause import Cause
from eventbus.consumer.failure import Failure
from eventbus.messaging.message_copy import PROPERTIES_LIMIT, copy_of, own_headers
from eventbus.messaging.stream import Entry, published_at
from eventbus.messaging.untrusted import BODY_LIMIT, decoded, envelope, storable, text

DEEP = b"[" * 100_000

#: Values that py-amqp can return in the headers of a message.
VALUES: list[Any] = [
    None,
    True,
    -1,
    2**63 - 1,
    float("nan"),
    Decimal("1e-255"),
    b"\xff",
    "\ud800",
    "\0\x1b[2J",
    "x" * 100_000,
    datetime(1970, 1, 1, tzinfo=UTC),
    [],
    {b"\xff": [{}]},
]


def in_stream(body: bytes, **properties: Any) -> Entry:
    headers = properties.pop("headers", {})
    return Entry(1, Message(body, headers=headers, properties=properties))


@given(st.one_of(st.text(), st.binary(), st.integers(), st.lists(st.text())), st.integers(1, 300))
def test_the_text_of_any_value_is_printable_and_short(value: object, limit: int) -> None:
    result = text(value, limit)

    assert len(result) <= limit
    assert result.replace("\n", "").isprintable()
    result.encode()


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_the_text_of_a_header_is_stable(value: Any) -> None:
    assert text(value) == text(text(value))


def test_the_text_of_a_deep_list_is_its_type() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert text(deep) == "<list>"
    # Python would free a deep list recursively.
    while deep:
        deep = deep.pop()


def test_storable_text_has_neither_nul_nor_surrogates() -> None:
    assert storable("a\0b\ud800c") == "ab?c"


@pytest.mark.parametrize("body", [DEEP, b"\xff", b"", b"{", b" " * (BODY_LIMIT + 1), "\ud800"])
def test_an_invalid_body_has_no_envelope(body: bytes | str) -> None:
    assert decoded(body) is None
    assert envelope(body) == {}


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_parked_message_is_read_with_any_headers(value: Any) -> None:
    names = ("task", "id", "retries", "x-death", *Failure.__dataclass_fields__)
    headers = dict.fromkeys(names, value) | {
        f"x-failure-{name.replace('_', '-')}": value for name in Failure.__dataclass_fields__
    }
    message = AmqpMessage(DEEP, application_headers=headers | {b"\xff": value})

    result = Parked.of(INVENTORY, message)

    assert result.id
    assert event_time(message) is None
    assert all(len(str(field)) < 3_000 for field in dataclasses.astuple(result))


def test_a_message_with_a_forged_failure_can_be_republished() -> None:
    forged = Failure.of(Cause.of(ValueError()), service="s", release="r", headers={}).to_headers()

    failure = Failure.of(
        Cause.of(ValueError()),
        service="s",
        release="r",
        headers=forged | {"x-failure-attempts": 2**63 - 1, "x-failure-first-at": "x" * 100_000},
    )

    assert failure.attempts == 1
    assert copy_of(b"", {}, failure.to_headers()) is not None


def test_a_message_without_an_id_is_named_by_its_body() -> None:
    one, again, other = (AmqpMessage(body) for body in (b"one", b"one", b"other"))

    assert event_id(one) == event_id(again) != event_id(other)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_message_with_any_header_is_copied_or_skipped(value: Any) -> None:
    headers = own_headers({"x-death": 1, "kept": value, b"\xff": value})

    copy = copy_of(b"body", {"user_id": "somebody", "app_id": "x"}, headers, expiration=None)

    assert "x-death" not in headers
    if copy is not None:
        assert "user_id" not in copy.properties
        assert len(copy._serialize_properties()) <= PROPERTIES_LIMIT


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * (BODY_LIMIT + 1), {}),
        (b"", {"x": "y" * PROPERTIES_LIMIT}),
        (b"", {"x": Decimal(2**40)}),
        (b"", {"x": object()}),
    ],
)
def test_a_message_that_the_broker_would_reject_is_not_copied(
    body: bytes, headers: dict[str, Any]
) -> None:
    assert copy_of(body, {}, headers) is None


def test_a_copy_has_no_routes_of_its_author() -> None:
    copy = copy_of(b"", {}, {"CC": ["fraud.queue"], "BCC": ["fraud.queue"], "kept": 1})

    assert copy
    assert copy.headers == {"kept": 1}


@pytest.mark.parametrize("seconds", [None, 0, 1_795_000_000_000, 2**64 - 1])
def test_a_message_without_a_valid_time_has_none(seconds: int | None) -> None:
    assert published_at(in_stream(b"", timestamp=seconds).message) is None


@pytest.mark.parametrize(
    "time",
    [
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "yesterday", "", None, 5),
        *([], {}, "2026-11-22T17:37:02"),
    ],
)
def test_a_past_event_without_a_valid_time_is_copied(time: Any) -> None:
    body = msgspec.json.encode([[], {"event": {"time": time}}, {}])
    headers = {"id": ["x"], "task": b"\xff", "traceparent": {"a": 1}}

    past = PastEvent.of(in_stream(body, headers=headers))

    assert past.time is None
    assert past.copy(replayed=True)._serialize_properties()


@pytest.mark.parametrize("body", [DEEP, b"\xff", b"[]", b'[0,{"event":1},0]'])
def test_a_past_message_that_is_not_an_event_is_copied_unchanged(body: bytes) -> None:
    copy = PastEvent.of(in_stream(body, headers={"id": "x" * 100_000})).copy(replayed=True)

    assert copy.body == body
    assert len(copy._serialize_properties()) < PROPERTIES_LIMIT


def test_the_time_of_a_past_event_is_parsed_like_its_service_does() -> None:
    body = msgspec.json.encode([[], {"event": {"time": "2026-11-22t17:37:02z"}}, {}])

    result = PastEvent.of(in_stream(body)).time

    assert result == datetime(2026, 11, 22, 17, 37, 2, tzinfo=UTC)


def test_a_time_out_of_range_in_utc_is_shown_unchanged() -> None:
    assert moment("0001-01-01T00:00:00+23:59") == "0001-01-01T00:00:00+23:59"
