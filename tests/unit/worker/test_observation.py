"""The main process calls the receivers of Celery's signals for a run that its child did not end."""

from typing import Any

import pytest

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.receive import Delivery
from eventbus.worker.inbound import Inbound
from eventbus.worker.observation import Observation
from testkit.processes.signals import SignalCall, worker_app

app = worker_app("stock.reserved", retry_tiers=(1.0, 5.0))


def inbound(attempts: int) -> Inbound:
    """Return a delivery in the main process."""
    receipt: Any = None
    delivery = Delivery("stock.reserved", b"[]", attempts, event_id="event-1")
    return Inbound(app.tasks["stock.reserved"], receipt, delivery)


@pytest.mark.parametrize(("attempts", "signal"), [(1, "retry"), (9, "failure")])
@pytest.mark.parametrize("error", ["WorkerLostError", "TimeLimitExceeded"])
def test_a_run_that_ends_with_its_process_is_signalled(
    calls: list[SignalCall], attempts: int, signal: str, error: str
) -> None:
    Observation().failed(inbound(attempts), Cause(Verdict.RETRY, error, "killed"))

    assert [(call.name, call.task_id) for call in calls] == [(signal, "event-1")]


def test_a_failure_that_the_child_signalled_is_not_signalled_again(
    calls: list[SignalCall],
) -> None:
    Observation().failed(inbound(1), Cause(Verdict.RETRY, "Transient", "later"))

    assert calls == []
