"""One order is one trace: what a request leads to, in every process, as the span store has it."""

import json

import pytest
from kombu.message import Message
from sqlalchemy import select

from eventbus.database.db import transaction
from span_store import store
from span_store.models import SpanRow
from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: A span's service, name, and its parent's name.
Link = tuple[str, str, str | None]


@pytest.fixture
def traced(stack: Stack) -> Stack:
    """A system with stock whose processes will record spans."""
    stack.trace()
    stack.stock(TEA=100)
    return stack


def test_an_order_in_stock_is_one_trace_from_the_request_to_its_mails(traced: Stack) -> None:
    # Given a running system
    traced.start()

    # When a customer orders
    order_id = traced.place(("TEA", 3))

    # Then each span has the parent from which it followed, and all are one trace
    def told() -> None:
        assert links(spans(traced, order_id)) == sorted(
            [
                ("order-api", "POST /orders", None),
                ("order-relay", "publish order.created", "POST /orders"),
                ("notification-worker", "process order.created", "publish order.created"),
                ("notification-mailer", "send mail received", "process order.created"),
                ("fraud-worker", "process order.created", "publish order.created"),
                ("inventory-worker", "process order.created", "publish order.created"),
                ("inventory-relay", "publish stock.reserved", "process order.created"),
                ("order-worker", "process stock.reserved", "publish stock.reserved"),
                ("order-relay", "publish order.confirmed", "process stock.reserved"),
                ("notification-worker", "process order.confirmed", "publish order.confirmed"),
                ("notification-mailer", "send mail confirmed", "process order.confirmed"),
            ],
            key=str,
        )

    eventually(told)
    found = spans(traced, order_id)
    assert len({span.trace_id for span in found}) == 1
    assert {span.status for span in found} == {"unset"}

    # And of the ticks that waked the other processes, each of which is in no order's trace, one is
    # told by each
    def ticks() -> None:
        assert recorded(traced, like="run/%") == [
            ("analytics-reader", "run/analytics.reader"),
            ("fraud-relay", "run/fraud.relay"),
            ("inventory-relay", "run/inventory.relay"),
            ("notification-mailer", "run/notification.mailer"),
            ("order-relay", "run/order.relay"),
        ]

    eventually(ticks)


def recorded(stack: Stack, *, like: str) -> list[tuple[str, str]]:
    with transaction(stack.sessions("trace")) as session:
        wanted = select(SpanRow.service, SpanRow.name).where(SpanRow.name.like(like)).distinct()
        return sorted((service, name) for service, name in session.execute(wanted))


def links(spans: list[SpanRow]) -> list[Link]:
    names = {span.span_id: span.name for span in spans}
    return sorted(
        ((span.service, span.name, names.get(span.parent_id or "")) for span in spans), key=str
    )


def spans(stack: Stack, order_id: str) -> list[SpanRow]:
    with transaction(stack.sessions("trace")) as session:
        return store.find(session, order_id)


def test_every_attempt_of_a_handler_that_fails_twice_is_in_the_trace(traced: Stack) -> None:
    # Given an inventory whose handler fails as the customer's address asks for
    traced.start_failing()
    traced.start("api", "order-worker", "order-relay", "inventory-relay", "beat")

    # When orders come that fail twice, and for good, each alone: what fails in a batch is tried
    # again alone before it counts as an attempt
    twice = traced.place(("TEA", 1), email="twice@example.com")
    assert traced.decided(twice) == ("CONFIRMED", None)
    never = traced.place(("TEA", 1), email="permanent@example.com")

    # Then each attempt is a child of the same publishing, and tells how it ended
    def told() -> None:
        assert attempts(traced, twice) == [
            (1, "retry", "error", "Transient: the shelf is locked"),
            (2, "retry", "error", "Transient: the shelf is locked"),
            (3, "handled", "unset", None),
        ]
        assert attempts(traced, never) == [
            (1, "parked", "error", "Permanent: there is no shelf"),
        ]
        # And what the last attempt published is its own child
        by_id = {span.span_id: span for span in spans(traced, twice)}
        answer = next(span for span in by_id.values() if span.name == "publish stock.reserved")
        assert by_id[str(answer.parent_id)].attributes["attempt"] == 3

    eventually(told)
    tried = [span for span in spans(traced, twice) if span.name == "process order.created"]
    assert len({span.parent_id for span in tried}) == 1
    assert len({span.trace_id for span in spans(traced, twice)}) == 1

    # And the log lines of the failed attempts name the trace
    lines = [line for line in traced.log("inventory-worker").splitlines() if twice in line]
    assert len(lines) == 3
    assert {json.loads(line)["trace_id"] for line in lines} == {tried[0].trace_id}


@pytest.mark.parametrize(
    ("relay", "outcomes"),
    [("claiming_order_relay", ["handled"]), ("order_relay", ["handled", "duplicate"])],
    ids=["between claim and publish", "between publish and mark"],
)
def test_an_order_stays_one_trace_when_its_relay_dies(
    traced: Stack, relay: str, outcomes: list[str]
) -> None:
    # Given a relay that is killed before the broker has the event, or before the outbox knows that
    traced.start("api", "order-worker", "inventory-worker", "inventory-relay", "beat")
    traced.start("order-relay", module=f"testkit.programs.crashing.{relay}")

    # When an order is placed, and the relay is started again after its death
    order_id = traced.place(("TEA", 3))
    traced.wait_until_dead("order-relay")
    traced.start("order-relay")
    assert traced.decided(order_id) == ("CONFIRMED", None)

    # Then every delivery is in the one trace, and what came of the publishing that survived is
    # below it, and that below the request
    def told() -> None:
        found = spans(traced, order_id)
        attempts = [s.attributes["outcome"] for s in found if s.name == "process order.created"]
        assert attempts == outcomes
        assert set(links(found)) >= {
            ("order-api", "POST /orders", None),
            ("order-relay", "publish order.created", "POST /orders"),
            ("inventory-worker", "process order.created", "publish order.created"),
            ("inventory-relay", "publish stock.reserved", "process order.created"),
            ("order-worker", "process stock.reserved", "publish stock.reserved"),
            ("order-relay", "publish order.confirmed", "process stock.reserved"),
        }
        assert len({span.trace_id for span in found}) == 1

    eventually(told)


def test_spans_are_sent_by_a_worker_that_is_asked_to_end(traced: Stack) -> None:
    # Given a worker that sends its spans only when it ends
    traced.start("api", "order-relay", "beat")
    traced.start("inventory-worker", module="testkit.programs.patient.inventory_worker")
    order_id = traced.place(("TEA", 1))
    eventually(lambda: _assert_reserved(traced, 1))

    # When it is asked to end
    traced.shut_down("inventory-worker")

    # Then its spans have arrived
    assert ("inventory-worker", "process order.created") in {
        (span.service, span.name) for span in spans(traced, order_id)
    }


def test_without_an_endpoint_no_thread_runs_and_no_header_is_added(stack: Stack) -> None:
    # Given a system in which nobody hears of the inventory's events, and tracing is off
    stack.stock(TEA=10)
    stack.start("api", "order-relay", "beat")

    # When an order's event is published
    order_id = stack.place(("TEA", 1))
    message = eventually(lambda: _waiting(stack, "inventory.queue"))

    # Then its headers are those of Celery alone
    assert "traceparent" not in message.headers
    # And the trace is known all the same
    envelope = json.loads(message.body)[1]["event"]
    assert envelope["subject"] == order_id
    assert len(envelope["traceparent"].split("-")[1]) == 32


def _waiting(stack: Stack, queue: str) -> Message:
    messages = stack.vhost.messages(queue)
    assert messages
    return messages[0]


def _assert_reserved(stack: Stack, count: int) -> None:
    assert stack.reserved("TEA") == count


def attempts(stack: Stack, order_id: str) -> list[tuple[int, str, str, str | None]]:
    return [
        (span.attributes["attempt"], span.attributes["outcome"], span.status, span.reason)
        for span in spans(stack, order_id)
        if span.name == "process order.created"
    ]
