"""What a worker tells onlookers of its tasks, in Celery's own words (`task-received`, …).

Celery's own sender of them waits for the broker, and ends the worker's consumer when the broker
objects. What is only looked at must do neither.
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

from eventbus.messaging.best_effort_publisher import LossyPublisher
from eventbus.topology.users import TASK_EVENTS

#: Seconds that an event waits for company: one message takes all that are there.
FLUSH_INTERVAL = 0.5

#: Tasks a second that a worker reports, each from its beginning to its end. A list that grows by
#: more is not read, and each event costs its readers many times what it costs the worker.
TASKS_PER_SECOND = 10

#: What onlookers are told of a task. Nothing else leaves: a trace may quote a customer's data.
_TOLD = ("uuid", "name", "args", "kwargs", "retries", "result", "runtime")

#: How a task ends, as far as this worker is concerned.
_LAST = frozenset({"task-succeeded", "task-failed", "task-retried", "task-rejected"})

_ERROR_CLASS = re.compile(r"\w+")


class TaskEvents:
    """Takes the place of Celery's own sender in a consumer; `send` only remembers, `flush` sends.

    What cannot be sent at once is dropped.
    """

    enabled = True
    #: Celery ends its loop with this connection: it must not know ours.
    connection = None

    def __init__(self, publisher: LossyPublisher, *, hostname: str, service: str) -> None:
        self._publisher = publisher
        self._service = service
        self._hostname = hostname
        self._waiting: list[dict[str, Any]] = []
        self._told: set[str] = set()
        self._window = 0.0
        self._left = 0
        # Celery's `Heart` adds to them.
        self.on_enabled: set[Callable[[], None]] = set()
        self.on_disabled: set[Callable[[], None]] = set()

    def send(self, kind: str, *, retry: bool = False, **fields: Any) -> None:
        """Remember an event for the next flush, unless onlookers are not told of its task.

        Of a task, `uuid` is the event's id.
        """
        del retry  # nothing is sent twice
        if kind.startswith("task-"):
            if not self._is_told(kind, fields["uuid"]):
                return
            fields = self._of_task(fields)
        sender = {"type": kind, "hostname": self._hostname, "pid": os.getpid()}
        times = {"timestamp": time.time(), "utcoffset": utcoffset()}
        self._waiting.append(sender | times | fields)

    def flush(self) -> None:
        """Send what is remembered, and forget it."""
        events, self._waiting = self._waiting, []
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
        """Close the connection; a flush opens another, after a while."""
        self._publisher.close()

    def _is_told(self, kind: str, task_id: str) -> bool:
        if kind == "task-received" and self._has_room():
            self._told.add(task_id)
        told = task_id in self._told
        if kind in _LAST:
            self._told.discard(task_id)
        return told

    def _has_room(self) -> bool:
        now = time.monotonic()
        if now - self._window >= 1:
            self._window, self._left = now, TASKS_PER_SECOND
        self._left -= 1
        return self._left >= 0

    def _of_task(self, fields: dict[str, Any]) -> dict[str, Any]:
        told = {name: _value(fields[name]) for name in _TOLD if name in fields}
        # The services share an event and so its id, by which Flower would take them for one task.
        told["uuid"] = str(uuid5(NAMESPACE_URL, f"{self._service}:{fields['uuid']}"))
        if error := _ERROR_CLASS.match(str(fields.get("exception", ""))):
            told["exception"] = f"{error[0]}()"
        return told


def _value(field: Any) -> Any:
    # What costs something to make comes as a function: most tasks are not told of.
    return field() if callable(field) else field


class TaskEventsStep(bootsteps.StartStopStep):
    """Shows the worker to onlookers for as long as it consumes."""

    requires = (Tasks,)

    def include_if(self, consumer: Any) -> bool:
        """Only where the setting says so."""
        return bool(consumer.app.settings.task_events)

    def start(self, consumer: Any) -> None:
        """Say now and then that the worker is there, and send what is remembered."""
        events = consumer.event_dispatcher
        self._heart = Heart(consumer.timer, events)
        self._heart.start()
        self._timer = consumer.timer.call_repeatedly(FLUSH_INTERVAL, events.flush)

    def stop(self, consumer: Any) -> None:
        """Say that the worker goes."""
        if timer := getattr(self, "_timer", None):
            timer.cancel()
            self._heart.stop()
            consumer.event_dispatcher.flush()
            consumer.event_dispatcher.close()
