"""One run of an event's task, told by Celery's own signals.

Celery sends its signals where it calls a task. A worker here calls none: a child process handles
many events at once. So they are sent here, in Celery's order and with its arguments, and whatever
is connected to them sees an event as the run of a task.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from billiard.einfo import ExceptionInfo
from celery import Task, signals, states
from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Retry
from celery.utils.dispatch import Signal

from eventbus.consumer.receive import Delivery
from eventbus.messaging.event_message import task_headers

log = logging.getLogger(__name__)

T = TypeVar("T")

_SIGNALS = (
    signals.task_prerun,
    signals.task_success,
    signals.task_retry,
    signals.task_failure,
    signals.task_postrun,
)

#: Headers that are not attributes of a request: they would hide its methods, or stand for what only
#: a publishing has.
_NOT_ATTRIBUTES = {"declare", *(name for name, value in vars(Context).items() if callable(value))}

#: Headers of Celery's own. Celery makes this set anew for each request.
_OWN = frozenset({*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"})


def is_heard() -> bool:
    """Tell whether anything is connected to the signals of a run; if not, make none."""
    return any(signal.receivers for signal in _SIGNALS)


def request_of(delivery: Delivery, **more: Any) -> Context:
    """Return a task's request with the headers of its message, as Celery would make it."""
    headers = delivery.headers or task_headers(
        delivery.event_id, delivery.task, delivery.traceparent, retries=delivery.attempts - 1
    )
    kept = {name: value for name, value in headers.items() if name not in _NOT_ATTRIBUTES}
    custom = {name: value for name, value in headers.items() if name not in _OWN}
    told = {"headers": custom, "args": (), "kwargs": {}, "called_directly": False}
    return Context(kept | told | more)


class Run:
    """A run from `begin` to `end`, all of it told `inside`; no receiver can disturb it.

    It has done nothing, and counts for nothing, unless it succeeds, or fails, before its end. One
    that ends with its process has no `end`.
    """

    def __init__(self, task: Task, request: Context) -> None:
        self._task = task
        self._request = request
        # Its own: the runs of a batch are open at the same time, and what a receiver leaves for
        # one of them, such as the current span, is not for the others.
        self._context = copy_context()
        self._began = 0.0
        self._state: str = states.IGNORED
        self._value: object = None

    def begin(self) -> None:
        """Tell that the event is about to be handled."""
        self._began = time.monotonic()
        self._send(signals.task_prerun, task=self._task, **self._called)

    def inside(self, work: Callable[[], T]) -> T:
        """Call `work` as a part of this run; returns and raises what it does."""
        return self._context.run(self._as_current, work)

    def succeed(self, result: str) -> None:
        """Tell that the event is handled."""
        self._state, self._value = states.SUCCESS, result
        runtime = time.monotonic() - self._began
        self._send(signals.task_success, result=result, runtime=runtime)

    def retry(self, error: BaseException, seconds: float) -> None:
        """Tell that the event failed, and comes again after so many seconds."""
        reason = Retry(exc=error, when=seconds)
        self._state, self._value = states.RETRY, reason
        if signals.task_retry.receivers:
            einfo = _info(reason, error)
            self._send(signals.task_retry, request=self._request, reason=reason, einfo=einfo)

    def fail(self, error: BaseException) -> None:
        """Tell that the event failed for good."""
        self._state, self._value = states.FAILURE, error
        if signals.task_failure.receivers:
            about = {"einfo": _info(error, error), "traceback": error.__traceback__}
            self._send(signals.task_failure, exception=error, **about, **self._called)

    def end(self) -> None:
        """Tell that the run is over."""
        ended = {"retval": self._value, "state": self._state}
        self._send(signals.task_postrun, task=self._task, **ended, **self._called)

    @property
    def _called(self) -> dict[str, Any]:
        request = self._request
        return {"task_id": request.id, "args": request.args, "kwargs": request.kwargs}

    def _send(self, signal: Signal, **about: Any) -> None:
        if not signal.receivers:
            return
        try:
            signal.send(sender=self._task, **about)
        except SystemExit:
            # No reason to end: a child process ends when its worker closes the connection.
            log.exception("a receiver of a signal wanted to end the process")

    def _as_current(self, work: Callable[[], T]) -> T:
        self._task.request_stack.push(self._request)
        _task_stack.push(self._task)
        try:
            return work()
        finally:
            _task_stack.pop()
            self._task.request_stack.pop()


def _info(told: BaseException, error: BaseException) -> ExceptionInfo:
    if error.__traceback__ is None:
        # Receivers count on one.
        with suppress(type(error)):
            raise error
    return ExceptionInfo((type(told), told, error.__traceback__))
