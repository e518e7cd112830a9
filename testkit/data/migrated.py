"""The services as they are when nobody says or hears the first version of `order.created`."""

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


def services_are(monkeypatch: pytest.MonkeyPatch, services: tuple[Service, ...] = MIGRATED) -> None:
    """Let `orderctl topology apply` make the broker as these services want it."""
    monkeypatch.setattr(
        actions, "topology", lambda **options: topology(services=services, **options)
    )
