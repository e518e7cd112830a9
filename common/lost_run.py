"""A run that ended with its child process: the main process tells of it, as Celery's does."""

from functools import partial
from typing import TYPE_CHECKING

from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from common import codec
from common.cause import Cause
from common.task_run import Run, is_heard, request_of

if TYPE_CHECKING:
    from common.micro_batches import Reception

_ERRORS = {kind.__name__: kind for kind in (TimeLimitExceeded, WorkerLostError)}


def tell(reception: "Reception", cause: Cause) -> None:
    """Tell that the attempt failed; its begin was told in the child, its end by nobody."""
    if not is_heard():
        return
    delivery, tiers = reception.delivery, reception.task.app.settings.retry_tiers
    about = {"order": codec.order_id(delivery.body), "event": delivery.event_id}
    run = Run(reception.task, request_of(delivery, kwargs=about))
    error = _ERRORS[cause.exception](cause.text)
    if delivery.attempts > len(tiers):
        run.inside(partial(run.fail, error))
    else:
        run.inside(partial(run.retry, error, tiers[delivery.attempts - 1]))
