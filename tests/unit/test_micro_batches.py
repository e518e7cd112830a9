"""Who gets what arrived: one child all of it, another only when that is too much or too slow."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from common import micro_batches
from common.consumer import Delivery, Outcome
from common.micro_batches import BATCH_LIMIT, MicroBatches, Reception


class Worker:
    """Celery's consumer as far as batches know it, with two children that answer when told to."""

    def __init__(self) -> None:
        self.pool = self
        self.app = SimpleNamespace(
            conf=SimpleNamespace(task_soft_time_limit=30, task_time_limit=45)
        )
        self.timer = self
        self.acknowledgements = self
        self.event_dispatcher = None
        self.num_processes = 2
        self.sent: list[list[Delivery]] = []
        self.acknowledged = 0
        self._turn: list[Callable[[], None]] = []
        self._answers: list[Callable[..., None]] = []
        self._failures: list[Callable[..., None]] = []
        self.later: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self._turn.append(call)

    def call_after(self, _seconds: float, call: Callable[[], None]) -> None:
        self.later.append(call)

    def apply_async(self, _entry: object, *, args: Any, callback: Any, **options: Any) -> None:
        self.sent.append(args[0])
        self._answers.append(callback)
        self._failures.append(options["error_callback"])

    def acknowledge(self, messages: list[Any]) -> None:
        self.acknowledged += len(messages)

    def receive(self, batches: MicroBatches, count: int) -> None:
        """Let so many messages arrive, and the event loop turn once."""
        for _ in range(count):
            delivery = Delivery("order.created", {}, 1)
            receipt: Any = SimpleNamespace(message=object(), headers={"id": "id"})
            task: Any = SimpleNamespace(name="order.created")
            batches.add(Reception(task, receipt, delivery))
        turn, self._turn = self._turn, []
        for call in turn:
            call()

    def answer(self, number: int) -> None:
        """Let a batch be done."""
        self._answers[number]([(Outcome.DUPLICATE, None)] * len(self.sent[number]))

    def fail(self, number: int) -> None:
        """Let a batch fail."""
        self._failures[number](SimpleNamespace(exception=RuntimeError("broken")))


@pytest.fixture
def worker() -> Worker:
    """A worker whose children are idle."""
    return Worker()


@pytest.fixture
def batches(worker: Worker) -> MicroBatches:
    """The batches of that worker."""
    return MicroBatches(worker)


def sizes(worker: Worker) -> list[int]:
    """How many messages each batch had."""
    return [len(batch) for batch in worker.sent]


def test_what_arrives_while_a_batch_runs_is_the_next_batch(
    worker: Worker, batches: MicroBatches
) -> None:
    worker.receive(batches, 1)
    worker.receive(batches, 3)
    worker.receive(batches, 4)
    assert sizes(worker) == [1]

    worker.answer(0)

    assert sizes(worker) == [1, 7]


def test_more_than_a_batch_is_work_for_two(worker: Worker, batches: MicroBatches) -> None:
    worker.receive(batches, 1)

    worker.receive(batches, BATCH_LIMIT + 1)

    assert sizes(worker) == [1, BATCH_LIMIT]


def test_a_slow_batch_keeps_nothing_to_itself(
    worker: Worker, batches: MicroBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.receive(batches, 1)
    worker.receive(batches, 2)
    monkeypatch.setattr(micro_batches, "PATIENCE", 0.0)
    (look_again,) = worker.later

    look_again()

    assert sizes(worker) == [1, 2]


def test_a_batch_that_fails_is_done_again_one_by_one_by_both(
    worker: Worker, batches: MicroBatches
) -> None:
    worker.receive(batches, 5)

    worker.fail(0)
    for number in range(1, 6):
        worker.answer(number)

    assert sizes(worker) == [5, 1, 1, 1, 1, 1]
    assert worker.acknowledged == 5
