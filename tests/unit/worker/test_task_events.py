"""The task events of a worker: their content, and their rate."""

import json
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

import pytest
from amqp import Message

from eventbus.messaging.best_effort_publisher import BestEffortPublisher
from eventbus.worker import task_events
from eventbus.worker.task_events import TASKS_PER_SECOND, TaskEvents


class Reporter:
    """The events of a worker, and the messages that it has published."""

    def __init__(self) -> None:
        self.messages: list[tuple[Message, str]] = []
        self.events = TaskEvents(
            cast(BestEffortPublisher, self), hostname="order@order", service="order"
        )

    def publish(self, message: Message, *, exchange: str, routing_key: str) -> None:
        self.messages.append((message, exchange))

    def close(self) -> None:
        """Do nothing."""

    def published(self) -> list[dict[str, Any]]:
        """Flush, and return the events of all published messages."""
        self.events.flush()
        return [event for message, _ in self.messages for event in json.loads(message.body)]


def task_id_of(event_id: str) -> str:
    """Return the id of the task of an event in the order service."""
    return str(uuid5(NAMESPACE_URL, f"order:{event_id}"))


@pytest.fixture
def reporter() -> Reporter:
    return Reporter()


def test_events_are_published_in_one_message(reporter: Reporter) -> None:
    # When three events are sent
    reporter.events.send("worker-heartbeat", active=1, retry=True)
    reporter.events.send("task-received", uuid="1", name="order.created")
    reporter.events.send("task-started", uuid="1")

    # Then one message contains all of them
    kinds = [(event["type"], event["hostname"]) for event in reporter.published()]
    assert kinds == [
        (t, "order@order") for t in ("worker-heartbeat", "task-received", "task-started")
    ]
    ((_, exchange),) = reporter.messages
    assert exchange == "celeryev"


def test_no_message_is_published_without_an_event(reporter: Reporter) -> None:
    assert reporter.published() == []
    assert reporter.messages == []


def test_an_error_is_reported_by_its_class_only(reporter: Reporter) -> None:
    # Given an error whose text and trace quote a customer
    secret = "ada@example.com"
    reporter.events.send("task-received", uuid="1", name="order.created", root_id=secret)

    # When the task fails
    error = {"exception": f"IntegrityError('Key (email)=({secret})')", "traceback": secret}
    reporter.events.send("task-failed", uuid="1", **error)

    # Then only the class of the error has left
    events = reporter.published()
    assert events[-1]["exception"] == "IntegrityError()"
    assert secret not in json.dumps(events)


def test_each_task_is_reported_completely_or_not_at_all(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given tasks that all arrive in one second
    monkeypatch.setattr(task_events.time, "monotonic", lambda: 1000.0)
    tasks = [str(number) for number in range(TASKS_PER_SECOND + 10)]

    # When each of them starts and succeeds
    for kind in ("task-received", "task-started", "task-succeeded"):
        for task in tasks:
            reporter.events.send(kind, uuid=task)

    # Then all events of the first tasks have left, and none of the others
    events = [event["uuid"] for event in reporter.published()]
    assert sorted(events) == sorted(3 * [task_id_of(task) for task in tasks[:TASKS_PER_SECOND]])

    # When a second has passed
    reporter.messages.clear()
    monkeypatch.setattr(task_events.time, "monotonic", lambda: 1001.0)
    reporter.events.send("task-received", uuid="later")

    # Then new tasks are reported
    assert [event["uuid"] for event in reporter.published()] == [task_id_of("later")]


def test_an_ended_task_is_forgotten(reporter: Reporter) -> None:
    for last in ("task-succeeded", "task-failed", "task-retried", "task-rejected"):
        reporter.events.send("task-received", uuid=last)
        reporter.events.send(last, uuid=last)

    assert reporter.events._reported == set()


def test_tasks_of_an_ended_connection_are_forgotten(reporter: Reporter) -> None:
    # Given a task that was received, whose message another worker handles after a lost connection
    reporter.events.send("task-received", uuid="1", name="order.created")

    # When the connection ends
    reporter.events.close()

    # Then the worker no longer remembers the task
    assert reporter.events._reported == set()
