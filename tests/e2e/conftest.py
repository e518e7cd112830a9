"""Connections of the tests themselves."""

import pytest

from testkit.servers.patience import wait_for_connections


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test wait long for new connections; the processes have their usual limits."""
    wait_for_connections(monkeypatch)
