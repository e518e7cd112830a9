"""Reports of runs whose child process died, sent by the main process, as in Celery."""

from functools import partial
from typing import TYPE_CHECKING

from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from eventbus.consumer.cause import Cause
from eventbus.consumer.task_run import Run, has_receivers, request_of
from eventbus.events import codec
from eventbus.events.catalogue import current

if TYPE_CHECKING:
    from eventbus.worker.inbound import Inbound

_ERRORS = {kind.__name__: kind for kind in (TimeLimitExceeded, WorkerLostError)}


def report(inbound: "Inbound", cause: Cause) -> None:
    """Report the failed attempt. The child reported its start; its end is never reported."""
    if not has_receivers():
        return
    delivery, tiers = inbound.delivery, inbound.task.app.settings.retry_tiers
    arguments = {current().subject: codec.subject(delivery.body), "event": delivery.event_id}
    run = Run(inbound.task, request_of(delivery, kwargs=arguments))
    error = _ERRORS[cause.exception](cause.text)
    if delivery.attempts > len(tiers):
        run.inside(partial(run.fail, error))
    else:
        run.inside(partial(run.retry, error, tiers[delivery.attempts - 1]))
