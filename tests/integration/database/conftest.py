"""Fixtures for tests of databases."""

import pytest

from eventbus.consumer import retention


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Omit the pause of retention between two statements."""
    monkeypatch.setattr(retention, "PAUSE", 0.0)
