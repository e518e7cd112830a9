"""A worker's main process that reads the pause of its service, and whose handlers fail."""

from dataclasses import replace
from datetime import UTC, datetime

from eventbus.consumer.cause import Cause, Failed, Verdict
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.worker.consumption import Consumption
from testkit.processes.event_loop import EventLoop, Job, TaskConsumer

#: The limit of a burst.
LIMIT = 3

REASON = f"{LIMIT} of {LIMIT} events parked within a minute: KeyError in shop/handlers.py:reserve"
BY_WORKER = OperatorPause(
    reason=REASON, paused_by="worker inventory@a", paused_at=datetime.now(UTC), seconds=90.0
)
BY_OPERATOR = replace(BY_WORKER, reason="a test", paused_by="ada")


def connect(loop: EventLoop) -> Consumption:
    """Make the open connection follow the decision, and start reading the pause."""
    loop.task_consumer = TaskConsumer()
    consumption = Consumption(loop)
    consumption.synchronize()
    # Celery also makes this call, when its event loop is ready.
    loop.task_consumer.consume()
    return consumption


def consuming() -> EventLoop:
    """Return a worker that consumes, with one child and a limit of three events."""
    loop = EventLoop(1, parking_burst_limit=LIMIT)
    connect(loop)
    read(loop, None)
    return loop


def read(loop: EventLoop, pause: OperatorPause | None) -> None:
    """Read or store the pause once more, with this result."""
    if not loop.reads:
        loop.repeated[-1]()
        loop.turn()
    loop.reads.pop().read(pause)
    loop.turn()


def pause_and_resume(loop: EventLoop, pause: OperatorPause = BY_OPERATOR) -> None:
    """Pause the service, and resume it."""
    read(loop, pause)
    read(loop, None)


def bug(verdict: Verdict = Verdict.RETRY) -> Failed:
    """Return the failure of a child whose handler has a bug."""
    return Failed(Cause(verdict, "KeyError", "raised in line 7", "shop/handlers.py:reserve"))


def fail(loop: EventLoop, error: BaseException) -> None:
    """End the first batch with a failure."""
    loop.jobs.pop(0).fail(error)
    loop.turn()


def park(loop: EventLoop, count: int) -> None:
    """Park events that fail in their last attempt."""
    for _ in range(count):
        loop.deliver(f"event-{loop.channel.delivered}", retries=2)
        loop.turn()
        fail(loop, bug())


def only(jobs: list[Job]) -> Job:
    """Return the only job."""
    (job,) = jobs
    return job
