"""A record of Celery's signals."""

from collections.abc import Iterator

import pytest

from testkit.processes.signals import SignalCall, receivers


@pytest.fixture
def calls() -> Iterator[list[SignalCall]]:
    """The calls of a receiver that is connected to the signals of all runs."""
    record: list[SignalCall] = []
    with receivers(record.append):
        yield record
