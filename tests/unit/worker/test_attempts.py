"""Celery's signals report each event as the run of a task, in a batch and alone."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from common.events import StockReserved
from common.kombu_topology import ORDER
from eventbus.consumer.attempt import Attempt
from eventbus.consumer.attempts import attempt_all
from eventbus.consumer.receive import Delivery, Item, Outcome
from eventbus.errors import InvalidEvent, Permanent, Transient
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from testkit.processes.signals import SignalCall, receivers, worker_app

TIERS = (1.0, 5.0)

app = worker_app("stock.reserved", retry_tiers=TIERS)


def item(attempts: int = 1, event_id: str = "", **headers: Any) -> Item:
    """Return a delivery of `stock.reserved` with the outcome `HANDLED`."""
    event = Event(source="inventory", subject=uuid4(), sequence=1, data=StockReserved(lines=()))
    name = event_id or str(event.id)
    all_headers = task_headers(name, event.type, None, retries=attempts - 1) | headers
    delivery = Delivery(
        event.type, b"", attempts, None, name, headers=all_headers if headers else None
    )
    return Item(delivery, event, event, Outcome.HANDLED)


def attempt(items: list[Item], work: Callable[[], None] = lambda: None) -> None:
    def make(item: Item) -> Attempt:
        task = app.tasks[item.delivery.task]
        return Attempt(item, task, service=ORDER, hostname="order@order", tiers=TIERS)

    attempt_all(items, make, work)


def fail(error: Exception) -> None:
    raise error


def names(calls: list[SignalCall], item: Item | None = None) -> list[str]:
    """Return the signals of one event, or of all events, in the order of their calls."""
    return [call.name for call in calls if item is None or call.task_id == item.delivery.event_id]


def test_the_signals_of_a_run_surround_its_work(calls: list[SignalCall]) -> None:
    # Given an event, and work that reads the current request
    one = item()
    during: list[str] = []

    def work() -> None:
        during.extend(names(calls))
        assert app.tasks["stock.reserved"].request.id == one.delivery.event_id

    # When it is attempted
    attempt([one], work)

    # Then the work ran between the first and the last signal
    assert during == ["prerun"]
    assert names(calls) == ["prerun", "success", "postrun"]
    assert calls[1].arguments["result"] == "handled"
    assert calls[2].state == "SUCCESS"


def test_a_request_has_headers_and_no_customer_data(
    calls: list[SignalCall],
) -> None:
    # Given a second delivery with its own header
    one = item(attempts=2, tenant="north")

    # When it is attempted
    attempt([one])

    # Then the request has the headers, and its arguments are ids
    request = calls[0].request
    assert (request.id, request.task, request.retries) == (
        one.delivery.event_id,
        "stock.reserved",
        1,
    )
    assert request.tenant == "north"
    assert request.headers["tenant"] == "north"
    assert request.hostname == "order@order"
    assert request.delivery_info["routing_key"] == "order.queue"
    assert one.event
    ids = {"order": str(one.event.subject), "event": one.delivery.event_id}
    assert calls[0].arguments["kwargs"] == request.kwargs == ids
    assert calls[0].arguments["task_id"] == one.delivery.event_id


@pytest.mark.parametrize(
    ("error", "number", "signal", "state"),
    [
        (Transient("later"), 1, "retry", "RETRY"),
        (ZeroDivisionError("bug"), 2, "retry", "RETRY"),
        (Transient("never"), 3, "failure", "FAILURE"),
        (Permanent("no"), 1, "failure", "FAILURE"),
    ],
)
def test_the_signals_of_a_failed_run_have_its_outcome(
    calls: list[SignalCall], error: Exception, number: int, signal: str, state: str
) -> None:
    # When the handling fails
    with pytest.raises(type(error)):
        attempt([item(number)], partial(fail, error))

    # Then the signals have the outcome and the original error
    assert names(calls) == ["prerun", signal, "postrun"]
    assert calls[2].state == state
    arguments = calls[1].arguments
    assert (arguments["reason"].exc if signal == "retry" else arguments["exception"]) is error
    assert "test_attempts.py" in arguments["einfo"].traceback


def test_the_texts_of_a_failed_run_are_descriptions(calls: list[SignalCall]) -> None:
    # When a handler fails with an error that quotes an address
    for number in (1, len(TIERS) + 1):
        with pytest.raises(ValueError, match="ada"):
            attempt([item(number)], partial(fail, ValueError("ada@example.com")))

    # Then the texts that come with the error do not quote the address
    retried, failed = (call.arguments for call in calls if call.name in ("retry", "failure"))
    for arguments in (retried, failed):
        einfo = arguments["einfo"]
        texts = (str(einfo), str(einfo.exception), str(arguments.get("reason")))
        assert not any("ada@example.com" in text for text in texts), texts
    assert "ValueError: raised in worker/test_attempts.py" in str(retried["reason"])


def test_an_outage_ends_a_run_without_a_result(calls: list[SignalCall]) -> None:
    # When the database fails
    with pytest.raises(psycopg2.OperationalError):
        attempt([item()], partial(fail, psycopg2.OperationalError("the server is gone")))

    # Then the run ends without a result
    assert names(calls) == ["prerun", "postrun"]
    assert calls[1].state == "IGNORED"


def test_the_runs_of_a_batch_end_after_its_commit(
    calls: list[SignalCall],
) -> None:
    # Given a batch with an invalid event and a duplicate
    items = [item() for _ in range(3)]
    items[1].error, items[1].event = InvalidEvent("no event"), None
    items[2].outcome = Outcome.DUPLICATE
    during: list[str] = []

    # When the batch is attempted
    attempt(items, lambda: during.extend(names(calls)))

    # Then all runs start first, and each has its own end
    assert during == ["prerun"] * 3
    assert [names(calls, i) for i in items] == [
        ["prerun", "success", "postrun"],
        ["prerun", "failure", "postrun"],
        ["prerun", "success", "postrun"],
    ]
    assert [call.state for call in calls if call.name == "postrun"] == [
        "SUCCESS",
        "FAILURE",
        "SUCCESS",
    ]


def test_a_rolled_back_batch_ends_its_runs_without_a_result(calls: list[SignalCall]) -> None:
    # Given a batch of three events
    items = [item() for _ in range(3)]

    # When the batch fails, and its events are attempted alone
    with pytest.raises(Transient):
        attempt(items, partial(fail, Transient("later")))
    for one in items:
        attempt([one])

    # Then each run ends, and one run of each event has a result
    for one in items:
        assert names(calls, one) == ["prerun", "postrun", "prerun", "success", "postrun"]
    ended = [call.state for call in calls if call.name == "postrun"]
    assert ended == ["IGNORED"] * 3 + ["SUCCESS"] * 3


def test_two_copies_of_an_event_run_one_after_the_other(
    calls: list[SignalCall],
) -> None:
    # Given an event and its duplicate
    one = item()
    copy = item(event_id=one.delivery.event_id)
    copy.outcome = Outcome.DUPLICATE

    # When they are attempted together
    attempt([one, copy])

    # Then each has a whole run
    assert names(calls) == ["prerun", "success", "postrun"] * 2
    assert [call.arguments["result"] for call in calls if call.name == "success"] == [
        "handled",
        "duplicate",
    ]


def test_context_variables_of_one_run_are_not_seen_by_another() -> None:
    # Given a receiver that sets a context variable, and receivers that read it
    current: ContextVar[str] = ContextVar("current", default="none")
    seen: list[tuple[str, str]] = []

    def note(call: SignalCall) -> None:
        if call.name == "prerun":
            assert current.get() == "none"
            current.set(call.task_id)
        seen.append((current.get(), call.task_id))

    # When a batch is attempted
    with receivers(note):
        attempt([item() for _ in range(3)])

    # Then each run has its own context
    assert len(seen) == 9
    assert all(current_id == task_id for current_id, task_id in seen)
    assert current.get() == "none"


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1)])
@pytest.mark.parametrize("size", [1, 3])
def test_a_receiver_that_raises_does_not_affect_the_work(error: BaseException, size: int) -> None:
    # Given a receiver that raises
    def broken(_: SignalCall) -> None:
        raise error

    worked: list[bool] = []
    with receivers(broken):
        # When a batch succeeds
        attempt([item() for _ in range(size)], lambda: worked.append(True))
        # And another fails
        with pytest.raises(Transient):
            attempt([item() for _ in range(size)], partial(fail, Transient("later")))

    # Then the work was done, and its own error was raised
    assert worked == [True]


def test_hostile_headers_cannot_override_a_request(calls: list[SignalCall]) -> None:
    # Given a message whose headers have the names of methods and fields of a request
    hostile = dict.fromkeys(
        ("get", "update", "clear", "declare", "args", "kwargs", "hostname", "delivery_info"), 7
    )

    # When the message is attempted
    attempt([item(**hostile)])

    # Then the request has its own fields
    request = calls[0].request
    assert request.get("hostname") == "order@order"
    assert request.get("declare") is None
    assert (request.args, request.delivery_info["exchange"]) == ((), "")


def test_no_attempt_is_created_without_a_receiver() -> None:
    # Given a factory of attempts that fails
    def make(_: Item) -> Attempt:
        raise AssertionError("an attempt was made")

    worked: list[bool] = []

    # When a batch is attempted without receivers
    attempt_all([item(), item()], make, lambda: worked.append(True))

    # Then the work was done
    assert worked == [True]
