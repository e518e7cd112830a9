"""Tests of the broker's and the database's images, which run in containers only."""

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test, with the reason, unless the run uses containers."""
    if item.config.getoption("infrastructure") != "containers":
        pytest.skip("NOT RUN, it needs Docker: make test-containers")
