"""These tests are about the broker's and the database's images, so they run on containers only."""

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test here, and say why, unless the run has containers."""
    if item.config.getoption("infrastructure") != "containers":
        pytest.skip("NOT RUN, it needs Docker: make test-containers")
