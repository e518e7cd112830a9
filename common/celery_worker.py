"""The consumer runtime: a Celery worker whose tasks are the events that a service consumes."""

import time
from collections.abc import Callable
from typing import Any, NoReturn

from billiard.einfo import ExceptionWithTraceback
from celery import Task, signals
from celery.exceptions import Retry
from celery.worker.request import Request

from common import metrics, tracing
from common.attempt import attempt
from common.celery_app import ServiceApp
from common.consumer import Handlers, Outcome, receive
from common.errors import Permanent
from common.kombu_topology import Service, event_queue
from common.settings import ServiceSettings
from common.task_events import TaskEventsStep


class EventRequest(Request):
    """Settles a message that was not handled: through a retry tier or in the parking lot.

    It lives in the worker's main process, which alone talks to the broker.
    """

    _error: BaseException = Permanent("rejected by its task")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Count each attempt: Celery's class for a task has an `on_success` of its own."""
        super().__init_subclass__(**kwargs)
        settle = cls.on_success

        def on_success(
            self: EventRequest, ended: tuple[bool, Any, float | None], **kwargs: Any
        ) -> None:
            settle(self, ended, **kwargs)
            self._observe(*ended)

        cls.on_success = on_success

    def _observe(self, failed: bool, returned: Any, seconds: float | None) -> None:
        if seconds is None:
            # Of an attempt that failed, Celery does not tell how long it took.
            seconds = time.time() - self.time_start
        # What a task returns comes from its child process as Python's representation of it.
        outcome = Outcome.FAILED if failed else Outcome(str(returned).strip("'"))
        envelope = self._message.payload[1].get("event")
        metrics.observe_handler(self.name, outcome, seconds, envelope)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
        """Remember why, and let Celery decide whether to repeat (a lost child) or to reject."""
        error = exc_info.exception
        self._error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        super().on_failure(exc_info, *args, **kwargs)

    def on_retry(self, exc_info: Any) -> None:
        """Send the message through the next retry tier."""
        error = exc_info.exception.exc
        self._message.consumer.retry(self._message.receipt, error)
        self.send_event("task-retried", exception=repr(error), traceback=str(exc_info.traceback))

    def reject(self, requeue: bool = False) -> None:
        """Park the message with the reason, or put it back if its child process was lost."""
        if requeue:
            super().reject(requeue)
        else:
            self._message.consumer.park(self._message.receipt, self._error)


class EventTask(Task):
    """Handles the events of one type; tries again on every error but a permanent one."""

    abstract = True
    Request = EventRequest
    autoretry_for = (Exception,)
    dont_autoretry_for = (Permanent,)
    throws = (Permanent,)

    def retry(self, *_: Any, exc: Exception, **__: Any) -> NoReturn:
        """Ask for another attempt, or give up by raising `exc` after the last tier.

        Celery would publish here, through the exchange that the message came from: to all services
        again. The main process publishes instead, when `Retry` reaches it.
        """
        if self.request.retries >= len(self.app.settings.retry_tiers):
            raise exc
        raise Retry(exc=exc)


def make_worker(
    service: Service, handlers: Handlers, settings: type[ServiceSettings], *, config: str
) -> ServiceApp:
    """Return the Celery app of a service's worker, with a task for each event it handles.

    `config` names a module of Celery settings. Nothing is read or opened before the worker starts.
    """
    app = ServiceApp(
        f"{service.name}-worker",
        service=service,
        settings=settings,
        config=config,
        queue=event_queue(service),
        consumer="common.safe_consumer:EventConsumer",
        task_cls=EventTask,
    )
    app.steps["consumer"].add(TaskEventsStep)

    def prepare_tracing(**_: Any) -> None:
        tracing.prepare(app.settings)

    # In the main process: loading takes longer than a child may take for its start.
    signals.worker_init.connect(prepare_tracing, weak=False)
    # A child process ends without Python's exit.
    signals.worker_process_shutdown.connect(_stop_tracing, weak=False)
    for contract in handlers:
        # Not shared: another app in this process (a test's) must not get this handler.
        app.task(_handle(app, service, handlers), name=contract.TYPE, bind=True, shared=False)
    return app


def _handle(app: ServiceApp, service: Service, handlers: Handlers) -> Callable[..., str]:
    def handle(task: Task, *, event: Any = None, **_: Any) -> str:
        # In the child, at its first event: the thread that sends spans survives no fork.
        tracing.start(app.main, app.settings)
        header, number = getattr(task.request, "traceparent", None), task.request.retries + 1
        last = len(app.settings.retry_tiers) + 1
        with attempt(service, task.name, event, header=header, number=number, last=last) as span:
            outcome = receive(app.sessions, handlers, event, task=task.name, attempts=number)
            span.set_attribute("outcome", outcome.value)
        return outcome.value

    return handle


def _stop_tracing(**_: Any) -> None:
    tracing.stop()
