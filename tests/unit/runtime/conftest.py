"""Recording of spans in the test's process."""

from collections.abc import Iterator

import pytest

from eventbus.telemetry import tracing
from testkit.processes.attempt_spans import NOWHERE


@pytest.fixture
def recording() -> Iterator[None]:
    """The spans of tasks are recorded, and sent nowhere."""
    tracing.start("test", NOWHERE, tasks=True)
    yield
    tracing.stop()
