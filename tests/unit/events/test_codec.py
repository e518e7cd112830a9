"""Every event can be encoded and decoded, and any other message is rejected."""

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import EVENTS
from eventbus.errors import InvalidEvent
from eventbus.events import codec, schema
from eventbus.events.envelope import Event
from testkit.events.event_strategies import ANY_EVENT
from tests.contract.samples import SAMPLES

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(ANY_EVENT)
def test_an_event_is_unchanged_after_encoding_and_decoding(event: Event) -> None:
    assert codec.decode(json.loads(codec.encode(event))) == event


@given(ANY_EVENT)
def test_an_encoded_event_is_a_cloud_event(event: Event) -> None:
    envelope = json.loads(codec.encode(event))

    assert envelope["specversion"] == "1.0"
    assert envelope["type"] == event.type
    assert envelope["datacontenttype"] == "application/json"
    assert envelope["dataschema"] == f"urn:order-system:event:{event.type}"
    assert None not in envelope.values()
    # CloudEvents: attribute names consist of lower-case letters and digits.
    assert all(name.isalnum() and name.islower() for name in envelope)


@given(ANY_EVENT)
def test_a_message_body_has_the_envelope_as_its_only_argument(event: Event) -> None:
    envelope = codec.encode(event)

    args, kwargs, embed = json.loads(codec.wrap(envelope))

    assert args == []
    assert kwargs == {"event": json.loads(envelope)}
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@given(st.dictionaries(st.text(), ANY_JSON))
def test_any_other_object_is_rejected_as_an_invalid_event(envelope: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        codec.decode(envelope)


@given(st.data())
def test_an_event_with_a_replaced_value_is_decoded_or_rejected(data: st.DataObject) -> None:
    # Given an event with one value replaced
    envelope = json.loads(codec.encode(data.draw(st.sampled_from(list(SAMPLES.values())))))
    holder, key = data.draw(st.sampled_from(list(_places(envelope))))
    holder[key] = data.draw(ANY_JSON)

    # When it is decoded
    try:
        event = codec.decode(envelope)
    except InvalidEvent:
        return

    # Then it is a known event
    assert event.type in EVENTS


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("total", 10**40, "total is above 9223372036854775807 - at `$.data`"),
        ("total", -(10**40), "total is below -9223372036854775807 - at `$.data`"),
        ("currency", "E" * 301, "currency has more than 300 characters - at `$.data`"),
        ("sequence", 2**31, "sequence is above 2147483647"),
        ("source", "s" * 256, "source has more than 255 characters"),
    ],
)
def test_a_value_beyond_any_column_is_rejected(name: str, value: object, problem: str) -> None:
    # Given an event with a value that no service can store
    event = json.loads(codec.encode(SAMPLES["order.created.v1"]))
    (event["data"] if name in event["data"] else event)[name] = value

    # Then it is rejected with the reason
    with pytest.raises(InvalidEvent) as error:
        codec.read(codec.wrap(json.dumps(event).encode()))
    assert str(error.value) == problem


def test_the_schema_of_an_event_type_describes_its_fields() -> None:
    for event_type, contract in EVENTS.items():
        document = schema.schemas()[event_type]
        described = document["$defs"][contract.__name__]["properties"]
        assert set(described) == {field.name for field in fields(contract)}


def _places(value: Any) -> Any:
    """Yield the container and the key of every nested value."""
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
