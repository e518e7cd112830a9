"""A message in the worker's main process, from Celery's strategy to its settlement."""

from dataclasses import dataclass, field
from typing import Any

from celery import Task

from eventbus.consumer.poison import SUSPECT_FROM
from eventbus.consumer.receive import Delivery
from eventbus.messaging.event_message import task_headers
from eventbus.worker.settlement import Receipt


@dataclass(slots=True, eq=False)
class Inbound:
    """A message in the worker's main process, from its arrival to its settlement."""

    task: Task
    receipt: Receipt
    delivery: Delivery
    #: The time at which its batch was sent to a child (`time.monotonic()`).
    started: float = field(default=0.0)

    @property
    def event_id(self) -> str:
        """The id of its event, from the message header."""
        return self.delivery.event_id


Batch = list[Inbound]


def strategy(task: Task, _app: Any, _consumer: Any) -> Any:
    """Return the function that Celery calls with each message of a task."""

    def receive(message: Any, *_: Any, **__: Any) -> None:
        headers = message.headers
        event_id, retries, trace = headers["id"], headers["retries"], headers.get("traceparent")
        plain = task_headers(event_id, task.name, trace, retries=retries)
        delivery = Delivery(
            task.name,
            message.body,
            retries + 1,
            trace,
            event_id,
            is_suspect=_is_suspect(headers.get("x-delivery-count")),
            # Default headers are not sent, because the child can create them at a lower cost.
            headers=None if headers == plain else headers,
        )
        message.life.batches.add(Inbound(task, message.receipt, delivery))

    return receive


def _is_suspect(delivery_count: object) -> bool:
    return isinstance(delivery_count, int) and delivery_count >= SUSPECT_FROM
