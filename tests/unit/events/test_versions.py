"""The versions of a fact: their names, and the conversion between them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from common.events import CATALOGUE, EVENTS, OrderConfirmed, OrderCreated, OrderCreatedV2
from common.kombu_topology import BUS
from eventbus.consumer.receive import Handlers
from eventbus.errors import InvalidEvent
from eventbus.events import codec
from eventbus.events.conversion import convert, understood, upcast
from eventbus.events.versions import from_on, label, up_to, versions
from eventbus.settings.base import SettingsError, load
from eventbus.topology.service import Service
from order_app.settings import PublishedVersions
from testkit.events.event_strategies import CREATED
from tests.contract.samples import SAMPLES

#: The types of each fact, oldest first.
FACTS = set(CATALOGUE.facts.values())


def sample(name: str) -> Any:
    return SAMPLES[name]


# --- Names --------------------------------------------------------------------------------------


def test_versions_of_a_fact_are_numbered_without_gaps() -> None:
    for types in FACTS:
        first = types[0]
        later = [f"{first}.v{number}" for number in range(2, len(types) + 1)]
        assert types == (first, *later)


def test_a_contract_with_a_numbered_name_is_a_version() -> None:
    numbered = {t for t in EVENTS if t.rpartition(".v")[2].isdecimal()}

    assert numbered == {t for types in FACTS for t in types[1:]}


def test_a_fact_without_versions_is_its_first_version() -> None:
    assert versions("order.confirmed") == from_on("order.confirmed") == ("order.confirmed",)
    assert label("order.confirmed") == "v1"
    assert label("order.created.v2") == "v2"


def test_a_consumer_of_a_version_also_consumes_newer_ones() -> None:
    old = Service(name="old", package="old", bus=BUS, consumes=("order.created", "order.confirmed"))
    new = Service(name="new", package="new", bus=BUS, consumes=("order.created.v2",))

    assert old.consumed_types == ("order.created", "order.created.v2", "order.confirmed")
    assert new.consumed_types == ("order.created.v2",)


def test_a_publisher_of_a_version_may_also_publish_newer_ones() -> None:
    old = Service(name="old", package="old", bus=BUS, publishes=("order.created",))
    new = Service(name="new", package="new", bus=BUS, publishes=("order.created.v2",))

    assert old.published_types == ("order.created", "order.created.v2")
    assert new.published_types == ("order.created.v2",)


# --- Conversion ---------------------------------------------------------------------------------


def test_neighbouring_versions_can_be_converted_both_ways() -> None:
    pairs = {(EVENTS[old], EVENTS[new]) for types in FACTS for old, new in pairwise(types)}

    assert {old for old, _ in pairs} == set(CATALOGUE.upcasts)
    assert {new for _, new in pairs} == set(CATALOGUE.downcasts)


@given(CREATED)
def test_data_is_unchanged_after_an_upcast_and_a_downcast(data: OrderCreated) -> None:
    newer = CATALOGUE.upcasts[OrderCreated](data)

    assert CATALOGUE.downcasts[OrderCreatedV2](newer) == data
    assert CATALOGUE.upcasts[OrderCreated](CATALOGUE.downcasts[OrderCreatedV2](newer)) == newer


def test_golden_files_of_two_versions_contain_the_same_event() -> None:
    # Both samples are written by hand, independently of the conversion.
    assert convert(sample("order.created.v2"), "order.created.v2") == sample("order.created.v2.v1")
    assert convert(sample("order.created.v2.v1"), "order.created") == sample("order.created.v2")


def test_versions_of_an_event_differ_in_type_schema_and_data_only() -> None:
    # When an event is encoded in two versions
    old = sample("order.created.v2")
    first, second = (
        json.loads(codec.encode(each)) for each in (old, convert(old, "order.created.v2"))
    )

    # Then only type, schema and data differ
    assert {name for name in first if first[name] != second[name]} == {
        "type",
        "dataschema",
        "data",
    }
    assert first["id"] == second["id"]


def test_an_event_is_upcast_to_the_first_version_with_a_handler() -> None:
    old = sample("order.created.v1")

    assert upcast(old, {OrderCreated, OrderCreatedV2}) is old
    assert upcast(old, {OrderCreatedV2}).type == "order.created.v2"
    assert upcast(old, {OrderCreatedV2}).id == old.id


def test_an_event_is_never_downcast_for_a_handler() -> None:
    with pytest.raises(InvalidEvent, match=r"this service does not handle order\.created\.v2"):
        upcast(sample("order.created.v2.v1"), {OrderCreated, OrderConfirmed})


def test_an_event_has_no_version_of_another_fact() -> None:
    with pytest.raises(InvalidEvent, match=r"order\.confirmed has no version order\.created"):
        convert(sample("order.confirmed.v1"), "order.created")


def test_a_handler_accepts_its_version_and_older_ones() -> None:
    handlers: Handlers = {OrderCreatedV2: lambda *_: None}

    assert [understood(contract) for contract in handlers] == [
        ("order.created", "order.created.v2")
    ]
    assert understood(OrderCreated) == up_to("order.created") == ("order.created",)


# --- Publishing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "types"),
    [
        (None, ("order.created",)),
        ("v1", ("order.created",)),
        ("v1,v2", ("order.created", "order.created.v2")),
        ("v2,v1", ("order.created", "order.created.v2")),
        ("v2", ("order.created.v2",)),
    ],
)
def test_a_setting_selects_the_published_versions(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, types: tuple[str, ...]
) -> None:
    if setting:
        monkeypatch.setenv("ORDER_CREATED_VERSIONS", setting)

    assert load(PublishedVersions).order_created_types == types


@pytest.mark.parametrize("wrong", ["v3", "v1,v3", "2", "order.created", ","])
def test_a_version_that_the_service_cannot_publish_is_rejected(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("ORDER_CREATED_VERSIONS", wrong)

    with pytest.raises(SettingsError, match=r"setting ORDER_CREATED_VERSIONS: .*v1, v2"):
        load(PublishedVersions)
