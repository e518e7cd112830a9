"""Task events for monitoring tools, in Celery's format (`task-received`, …).

Celery's sender waits for the broker, and stops the worker's consumer on a broker error. Monitoring
must do neither.
"""

import os
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
from amqp import Message
from celery import bootsteps
from celery.utils.time import utcoffset
from celery.worker.consumer.tasks import Tasks
from celery.worker.heartbeat import Heart

from eventbus.messaging.best_effort_publisher import BestEffortPublisher
from eventbus.topology.users import TASK_EVENTS

#: Seconds between two flushes. One message contains all buffered events.
FLUSH_INTERVAL = 0.5

#: Maximum number of tasks per second that a worker reports, each from its start to its end. More
#: events would not be viewed, and an event costs its readers many times more than it costs the
#: worker.
TASKS_PER_SECOND = 10

#: The only fields of a task that are sent, because a traceback may contain a customer's data.
_TASK_FIELDS = ("uuid", "name", "args", "kwargs", "retries", "result", "runtime")

#: The final event of a task in this worker.
_LAST = frozenset({"task-succeeded", "task-failed", "task-retried", "task-rejected"})

_ERROR_CLASS = re.compile(r"\w+")


class TaskEvents:
    """The replacement for Celery's event dispatcher. `send` buffers events, and `flush` sends them.

    Events that cannot be sent immediately are dropped.
    """

    enabled = True
    #: The connection is hidden from Celery, whose event loop would monitor the connection's
    #: heartbeat and end with it.
    connection = None

    def __init__(self, publisher: BestEffortPublisher, *, hostname: str, service: str) -> None:
        self._publisher = publisher
        self._service = service
        self._hostname = hostname
        self._buffer: list[dict[str, Any]] = []
        self._reported: set[str] = set()
        self._window = 0.0
        self._remaining = 0
        # Celery's `Heart` adds callbacks to these sets.
        self.on_enabled: set[Callable[[], None]] = set()
        self.on_disabled: set[Callable[[], None]] = set()

    def send(self, kind: str, *, retry: bool = False, **fields: Any) -> None:
        """Buffer an event for the next flush, unless its task is not reported.

        For a task, `uuid` is the event's id.
        """
        del retry  # nothing is sent twice
        if kind.startswith("task-"):
            if not self._is_reported(kind, fields["uuid"]):
                return
            fields = self._of_task(fields)
        sender = {"type": kind, "hostname": self._hostname, "pid": os.getpid()}
        times = {"timestamp": time.time(), "utcoffset": utcoffset()}
        self._buffer.append(sender | times | fields)

    def flush(self) -> None:
        """Send the buffered events and clear the buffer."""
        events, self._buffer = self._buffer, []
        if events:
            message = Message(
                msgspec.json.encode(events),
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=1,
                application_headers={"hostname": self._hostname},
            )
            self._publisher.publish(message, exchange=TASK_EVENTS.name, routing_key="task.multi")

    def close(self) -> None:
        """Close the connection; a later flush opens another connection.

        Tasks that have not ended are no longer reported: the broker redelivers their messages.
        """
        self._reported.clear()
        self._publisher.close()

    def _is_reported(self, kind: str, task_id: str) -> bool:
        if kind == "task-received" and self._is_within_rate():
            self._reported.add(task_id)
        is_reported = task_id in self._reported
        if kind in _LAST:
            self._reported.discard(task_id)
        return is_reported

    def _is_within_rate(self) -> bool:
        now = time.monotonic()
        if now - self._window >= 1:
            self._window, self._remaining = now, TASKS_PER_SECOND
        self._remaining -= 1
        return self._remaining >= 0

    def _of_task(self, fields: dict[str, Any]) -> dict[str, Any]:
        sent = {name: _value(fields[name]) for name in _TASK_FIELDS if name in fields}
        # Services share an event's id, and Flower would display their runs as one task.
        sent["uuid"] = str(uuid5(NAMESPACE_URL, f"{self._service}:{fields['uuid']}"))
        if error := _ERROR_CLASS.match(str(fields.get("exception", ""))):
            sent["exception"] = f"{error[0]}()"
        return sent


def _value(field: Any) -> Any:
    # Values that are expensive to compute are passed as functions, because most tasks are not
    # reported.
    return field() if callable(field) else field


class TaskEventsStep(bootsteps.StartStopStep):
    """The sender of task events and heartbeats while the worker consumes."""

    requires = (Tasks,)

    def include_if(self, consumer: Any) -> bool:
        """Return whether the setting enables task events."""
        return bool(consumer.app.settings.task_events)

    def start(self, consumer: Any) -> None:
        """Start the heartbeat and the periodic flush."""
        events = consumer.event_dispatcher
        self._heart = Heart(consumer.timer, events)
        self._heart.start()
        self._timer = consumer.timer.call_repeatedly(FLUSH_INTERVAL, events.flush)

    def stop(self, consumer: Any) -> None:
        """Send the offline event, flush, and close the connection."""
        if timer := getattr(self, "_timer", None):
            timer.cancel()
            self._heart.stop()
            consumer.event_dispatcher.flush()
            consumer.event_dispatcher.close()
