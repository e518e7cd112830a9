"""Every event survives the wire, and nothing that comes from there can do harm."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import events
from common.events import EVENTS
from eventbus.errors import InvalidEvent
from eventbus.events import codec, schema
from eventbus.events.envelope import Event
from tests.contract.samples import SAMPLES

SKUS = st.text(min_size=1, max_size=20)
TEXTS = st.text(max_size=40)
NUMBERS = st.integers(0, 2**53)
COUNTS = st.integers(1, 2**31)
LINES = st.lists(
    st.builds(events.Line, sku=SKUS, quantity=COUNTS, unit_price=NUMBERS), min_size=1, max_size=5
).map(tuple)
HELD = st.lists(st.builds(events.Quantity, sku=SKUS, quantity=COUNTS), max_size=5).map(tuple)
SHORTAGES = st.lists(
    st.builds(events.Shortage, sku=SKUS, requested=COUNTS, available=NUMBERS), max_size=5
).map(tuple)
ORDERED = {"customer_email": TEXTS, "currency": TEXTS, "total": NUMBERS, "lines": LINES}
MONEY = st.builds(events.Money, amount=NUMBERS, currency=st.just("EUR"))
PRICED = st.lists(
    st.builds(events.PricedLine, sku=SKUS, quantity=COUNTS, unit_price=MONEY),
    min_size=1,
    max_size=5,
).map(tuple)
DATA = st.one_of(
    st.builds(
        events.OrderCreatedV2,
        customer=st.builds(events.Customer, email=TEXTS),
        total=MONEY,
        lines=PRICED,
        client_ip=st.none() | TEXTS,
    ),
    st.builds(events.OrderCreated, **ORDERED),
    st.builds(events.OrderConfirmed, **ORDERED),
    st.builds(events.OrderCancelled, reason=TEXTS, shortages=SHORTAGES, **ORDERED),
    st.builds(events.StockReserved, lines=HELD),
    st.builds(events.StockRejected, reason=TEXTS, shortages=SHORTAGES),
    st.builds(events.StockReleased, lines=HELD),
)
#: No valid event is beyond them.
YEARS = (datetime(1970, 1, 2), datetime(8999, 12, 30))  # noqa: DTZ001 - hypothesis adds zones

ZONES = st.one_of(st.just(UTC), st.just(timezone(timedelta(hours=5, minutes=30))))
ANY_EVENT = st.builds(
    Event,
    id=st.uuids(),
    source=TEXTS,
    subject=st.uuids(),
    sequence=COUNTS,
    time=st.datetimes(*YEARS, timezones=ZONES),
    traceparent=st.none() | TEXTS,
    causationid=st.none() | st.uuids(),
    replayed=st.booleans(),
    data=DATA,
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(ANY_EVENT)
def test_every_event_survives_the_wire(event: Event) -> None:
    assert codec.decode(json.loads(codec.encode(event))) == event


@given(ANY_EVENT)
def test_an_event_is_one_cloud_event(event: Event) -> None:
    envelope = json.loads(codec.encode(event))

    assert envelope["specversion"] == "1.0"
    assert envelope["type"] == event.type
    assert envelope["datacontenttype"] == "application/json"
    assert envelope["dataschema"] == f"urn:order-system:event:{event.type}"
    assert None not in envelope.values()
    # CloudEvents: attribute names consist of lower-case letters and digits.
    assert all(name.isalnum() and name.islower() for name in envelope)


@given(ANY_EVENT)
def test_a_message_body_calls_the_task_of_an_event_with_its_envelope_alone(event: Event) -> None:
    envelope = codec.encode(event)

    args, kwargs, embed = json.loads(codec.wrap(envelope))

    assert args == []
    assert kwargs == {"event": json.loads(envelope)}
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@given(st.dictionaries(st.text(), ANY_JSON))
def test_what_is_no_event_is_refused_and_nothing_else_happens(envelope: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        codec.decode(envelope)


@given(st.data())
def test_an_event_with_any_one_value_replaced_is_decoded_or_refused(data: st.DataObject) -> None:
    # given
    envelope = json.loads(codec.encode(data.draw(st.sampled_from(list(SAMPLES.values())))))
    holder, key = data.draw(st.sampled_from(list(_places(envelope))))
    holder[key] = data.draw(ANY_JSON)

    # when
    try:
        event = codec.decode(envelope)
    except InvalidEvent:
        return

    # then
    assert event.type in EVENTS


def test_a_number_too_large_for_any_column_is_no_reason_to_fail_otherwise() -> None:
    # given
    envelope = json.loads(codec.encode(SAMPLES["order.created.v1"]))
    envelope["data"]["total"] = 10**40

    # then
    event = codec.decode(envelope)
    assert event.data.total == 10**40  # type: ignore[union-attr]


def test_the_schema_of_every_event_type_describes_its_own_fields() -> None:
    for event_type, contract in EVENTS.items():
        found = schema.schemas()[event_type]
        described = found["$defs"][contract.__name__]["properties"]
        assert set(described) == {field.name for field in fields(contract)}


def _places(value: Any) -> Any:
    """Yield (container, key) of every value inside."""
    steps = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in steps:
        yield value, key
        yield from _places(inner)
