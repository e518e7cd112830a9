"""A shop in which one service parks in sequence."""

from dataclasses import replace

import pytest

from common import kombu_topology
from console.actions.parked import CONSUMERS
from eventbus.topology.service import Service


def park_in_sequence(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """Choose the option for a service, for the operator's commands in this process."""
    chosen = replace(service, parks_in_sequence=True)
    declared = [chosen if each == service else each for each in kombu_topology.DATABASES]
    monkeypatch.setattr(kombu_topology, "DATABASES", tuple(declared))
    monkeypatch.setitem(CONSUMERS, service.name, chosen)
