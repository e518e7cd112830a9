"""A process that works by the clock: a Celery worker that runs one function at each tick."""

import time
from collections.abc import Callable
from typing import TypeVar

from common import tracing
from common.celery_app import ServiceApp
from common.kombu_topology import Service, tick_queue
from common.metrics import Read
from common.settings import ServiceSettings

#: Seconds between two ticks.
TICK_INTERVAL = 1.0

#: What happens at a tick. It gets a deadline (`time.monotonic()`) and works until then, so that
#: the next tick finds it ready: a lost tick costs one interval, and waiting ticks coalesce.
Tick = Callable[[float], object]

S = TypeVar("S", bound=ServiceSettings)


def make_ticker(
    service: Service,
    tick: str,
    start: Callable[[S], Tick],
    settings: type[S],
    *,
    config: str,
    read: Read,
) -> ServiceApp:
    """Return the Celery app of a process that consumes one of the service's tick queues.

    `start` is called once, at the first tick, and returns what each tick does. `read` returns what
    the process shows of its database in its metrics.
    """
    app = ServiceApp(
        f"{service.name}-{tick}",
        service=service,
        settings=settings,
        config=config,
        queue=tick_queue(service, tick),
        read=read,
    )
    started: list[Tick] = []

    def work() -> None:
        deadline = time.monotonic() + TICK_INTERVAL
        if not started:
            tracing.start(app.main, app.settings)
            started.append(start(app.settings))
        started[0](deadline)

    app.task(work, name=service.tick_queue(tick), shared=False)
    return app
