"""The services after the first version of `order.created` is neither published nor consumed."""

from dataclasses import replace

import pytest

from common.kombu_topology import SERVICES, topology
from console.actions import topology as actions
from eventbus.topology.service import Service


def _migrated(types: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("order.created.v2" if t == "order.created" else t for t in types)


#: `SERVICES`, after the last step of a move to the second version.
MIGRATED: tuple[Service, ...] = tuple(
    replace(s, publishes=_migrated(s.publishes), consumes=_migrated(s.consumes)) for s in SERVICES
)


def use_services(monkeypatch: pytest.MonkeyPatch, services: tuple[Service, ...] = MIGRATED) -> None:
    """Make `orderctl topology apply` declare the topology of these services."""
    monkeypatch.setattr(
        actions, "topology", lambda **options: topology(services=services, **options)
    )
