"""The run of an event's task, reported by Celery signals.

Celery sends these signals when it calls a task. The workers of this library do not call tasks: a
child process handles many events at once. This module sends the signals in Celery's order and with
Celery's arguments, so receivers observe each event as a task run.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import Task, signals, states
from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Retry
from celery.utils.dispatch import Signal

from eventbus.consumer.receive import Delivery
from eventbus.messaging.event_message import task_headers
from eventbus.telemetry.privacy import described, trace_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_SIGNALS = (
    signals.task_prerun,
    signals.task_success,
    signals.task_retry,
    signals.task_failure,
    signals.task_postrun,
)

#: Headers that do not become attributes of a request, because they would hide its methods or apply
#: only to publishing.
_NOT_ATTRIBUTES = {"declare", *(name for name, value in vars(Context).items() if callable(value))}

#: Headers defined by Celery, as a constant: Celery creates this set again for each request.
_CELERY_HEADERS = frozenset(
    {*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"}
)


def has_receivers() -> bool:
    """Return whether a receiver is connected to any signal of a run; if not, skip the run."""
    return any(signal.receivers for signal in _SIGNALS)


def request_of(delivery: Delivery, **more: Any) -> Context:
    """Return a task's request with the headers of its message, as Celery would create it."""
    headers = delivery.headers or task_headers(
        delivery.event_id, delivery.task, delivery.traceparent, retries=delivery.attempts - 1
    )
    attributes = {name: value for name, value in headers.items() if name not in _NOT_ATTRIBUTES}
    custom = {name: value for name, value in headers.items() if name not in _CELERY_HEADERS}
    call = {"headers": custom, "args": (), "kwargs": {}, "called_directly": False}
    return Context(attributes | call | more)


class Run:
    """A run from `begin` to `end`; work runs through `inside`, and receivers cannot disturb it.

    A run that ends without `succeed`, `retry` or `fail` had no effect and is ignored. A run whose
    process dies has no `end`.
    """

    def __init__(self, task: Task, request: Context) -> None:
        self._task = task
        self._request = request
        # Each run has its own context, because the runs of a batch are open at the same time: state
        # that a receiver sets in one run, such as the current span, must not appear in another run.
        self._context = copy_context()
        self._start_time = 0.0
        self._state: str = states.IGNORED
        self._value: object = None

    def begin(self) -> None:
        """Report that the handling of the event starts."""
        self._start_time = time.monotonic()
        self._send(signals.task_prerun, task=self._task, **self._call_arguments)

    def inside(self, work: Callable[[], T]) -> T:
        """Call `work` within this run; return its result, or raise its exception."""
        return self._context.run(self._as_current, work)

    def succeed(self, result: str) -> None:
        """Report that the event was handled."""
        self._state, self._value = states.SUCCESS, result
        runtime = time.monotonic() - self._start_time
        self._send(signals.task_success, result=result, runtime=runtime)

    def retry(self, error: BaseException, seconds: float) -> None:
        """Report that the event failed and is retried after `seconds`."""
        reason = Retry(exc=error, when=seconds)
        reason.excs = described(error)
        self._state, self._value = states.RETRY, reason
        if signals.task_retry.receivers:
            einfo = _info(reason, error)
            self._send(signals.task_retry, request=self._request, reason=reason, einfo=einfo)

    def fail(self, error: BaseException) -> None:
        """Report that the event failed permanently."""
        self._state, self._value = states.FAILURE, error
        if signals.task_failure.receivers:
            trace = {"einfo": _info(error, error), "traceback": error.__traceback__}
            self._send(signals.task_failure, exception=error, **trace, **self._call_arguments)

    def end(self) -> None:
        """Report the end of the run."""
        result = {"retval": self._value, "state": self._state}
        self._send(signals.task_postrun, task=self._task, **result, **self._call_arguments)

    @property
    def _call_arguments(self) -> dict[str, Any]:
        request = self._request
        return {"task_id": request.id, "args": request.args, "kwargs": request.kwargs}

    def _send(self, signal: Signal, **arguments: Any) -> None:
        if not signal.receivers:
            return
        try:
            signal.send(sender=self._task, **arguments)
        except SystemExit:
            # A child process exits only when its worker closes the connection.
            log.exception("SystemExit from signal receiver ignored")

    def _as_current(self, work: Callable[[], T]) -> T:
        self._task.request_stack.push(self._request)
        _task_stack.push(self._task)
        try:
            return work()
        finally:
            _task_stack.pop()
            self._task.request_stack.pop()


def _info(reported: BaseException, error: BaseException) -> ExceptionInfo:
    if error.__traceback__ is None:
        # Receivers expect a traceback.
        with suppress(type(error)):
            raise error
    info = ExceptionInfo((type(reported), reported, error.__traceback__))
    # Receivers get the error itself, but every accompanying text is a description.
    info.traceback = trace_of(error)
    info.exception = ExceptionWithTraceback(reported, info.traceback)
    return info
