"""Each event has a publisher and a consumer, and each consumer has a handler."""

import importlib

import pytest

from common.events import EVENTS as CONTRACTS
from common.kombu_topology import (
    CONSUMERS,
    SERVICES,
)
from eventbus.events.conversion import understood
from eventbus.events.versions import versions
from eventbus.topology.service import Service

EVERY_TYPE = sorted(t for t in CONTRACTS if versions(t)[-1] == t)


@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_an_event_has_one_publisher_and_other_consumers(
    event_type: str,
) -> None:
    publishers = {s.name for s in SERVICES if event_type in s.published_types}
    consumers = {s.name for s in SERVICES if event_type in s.consumed_types}

    assert len(publishers) == 1
    assert consumers - publishers == consumers != set()


def test_an_older_version_is_consumed_only_if_it_is_published() -> None:
    for event_type in CONTRACTS.keys() - set(EVERY_TYPE):
        publishers = [s.name for s in SERVICES if event_type in s.published_types]
        assert len(publishers) == 1 or not any(event_type in s.consumed_types for s in SERVICES)


def test_services_declare_each_known_event_once() -> None:
    for service in SERVICES:
        assert set(service.published_types) | set(service.consumed_types) <= set(CONTRACTS)
        for types in (service.published_types, service.consumed_types, service.ticks):
            assert len(set(types)) == len(types)


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_service_has_a_handler_for_each_consumed_type(service: Service) -> None:
    handlers = importlib.import_module(f"{service.package}.handlers").HANDLERS

    handled = [event_type for contract in handlers for event_type in understood(contract)]
    assert set(handled) >= set(service.consumed_types)
    assert len(set(handled)) == len(handled)
    # Handlers are for the newest version only, and each has a version that is consumed.
    assert all(versions(contract.TYPE)[-1] == contract.TYPE for contract in handlers)
    assert all(set(understood(contract)) & set(service.consumed_types) for contract in handlers)
    assert all(CONTRACTS[contract.TYPE] is contract for contract in handlers)


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.name)
def test_a_service_that_publishes_has_a_relay(service: Service) -> None:
    assert ("relay" in service.ticks) == bool(service.publishes)


@pytest.mark.parametrize("service", [s for s in SERVICES if s.publishes], ids=lambda s: s.name)
def test_a_service_that_publishes_can_be_restored(service: Service) -> None:
    assert callable(importlib.import_module(f"{service.package}.restoration").restore)
