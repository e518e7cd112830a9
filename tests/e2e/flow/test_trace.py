"""An order is one trace, from the request to its emails, through every process."""

import json

import pytest
from kombu.message import Message
from sqlalchemy import select

from eventbus.database.db import transaction
from span_store import store
from span_store.models import SpanRow
from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: The service and the name of a span, and the name of its parent.
Link = tuple[str, str, str | None]


@pytest.fixture
def traced(stack: Stack) -> Stack:
    """A system with stock whose processes record spans once they are started."""
    stack.trace()
    stack.stock(TEA=100)
    return stack


def test_an_order_is_one_trace_from_the_request_to_its_mails(traced: Stack) -> None:
    # Given a running system
    traced.start()

    # When a customer orders
    order_id = traced.place(("TEA", 3))

    # Then each span has its cause as its parent, and all belong to one trace
    def recorded_flow() -> None:
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

    eventually(recorded_flow)
    order_spans = spans(traced, order_id)
    assert len({span.trace_id for span in order_spans}) == 1
    assert {span.status for span in order_spans} == {"unset"}

    # And each process that consumes ticks has recorded one, in a separate trace
    def ticks() -> None:
        assert names_like(traced, "run/%") == [
            ("analytics-reader", "run/analytics.reader"),
            ("fraud-relay", "run/fraud.relay"),
            ("inventory-relay", "run/inventory.relay"),
            ("notification-mailer", "run/notification.mailer"),
            ("order-relay", "run/order.relay"),
        ]

    eventually(ticks)


def names_like(stack: Stack, pattern: str) -> list[tuple[str, str]]:
    query = select(SpanRow.service, SpanRow.name).where(SpanRow.name.like(pattern)).distinct()
    with transaction(stack.sessions("trace")) as session:
        return sorted((service, name) for service, name in session.execute(query))


def links(spans: list[SpanRow]) -> list[Link]:
    names = {span.span_id: span.name for span in spans}
    return sorted(
        ((span.service, span.name, names.get(span.parent_id or "")) for span in spans), key=str
    )


def spans(stack: Stack, order_id: str) -> list[SpanRow]:
    with transaction(stack.sessions("trace")) as session:
        return store.find(session, order_id)


def test_every_attempt_at_an_event_is_in_the_trace(traced: Stack) -> None:
    # Given an inventory whose handler fails as the customer's address specifies
    traced.start_failing()
    traced.start("api", "order-worker", "order-relay", "inventory-relay", "beat")

    # When one order fails twice and another permanently, each in its own batch: after a failed
    # batch, each event is handled alone before an attempt is counted
    twice = traced.place(("TEA", 1), email="twice@example.com")
    assert traced.decided(twice) == ("CONFIRMED", None)
    never = traced.place(("TEA", 1), email="permanent@example.com")

    # Then each attempt is a child of the same publication, and records its outcome
    def all_attempts() -> None:
        assert attempts(traced, twice) == [
            (1, "retry", "error", "Transient: the shelf is locked"),
            (2, "retry", "error", "Transient: the shelf is locked"),
            (3, "handled", "unset", None),
        ]
        assert attempts(traced, never) == [
            (1, "parked", "error", "Permanent: there is no shelf"),
        ]
        # And the event of the last attempt is a child of that attempt
        by_id = {span.span_id: span for span in spans(traced, twice)}
        reply = next(span for span in by_id.values() if span.name == "publish stock.reserved")
        assert by_id[str(reply.parent_id)].attributes["attempt"] == 3

    eventually(all_attempts)
    tries = [span for span in spans(traced, twice) if span.name == "process order.created"]
    assert len({span.parent_id for span in tries}) == 1
    assert len({span.trace_id for span in spans(traced, twice)}) == 1

    # And the log lines of the failed attempts name the trace
    lines = [line for line in traced.log("inventory-worker").splitlines() if twice in line]
    assert len(lines) == 3
    assert {json.loads(line)["trace_id"] for line in lines} == {tries[0].trace_id}


@pytest.mark.parametrize(
    ("relay", "outcomes"),
    [("claiming_order_relay", ["handled"]), ("order_relay", ["handled", "duplicate"])],
    ids=["between claim and publish", "between publish and mark"],
)
def test_an_order_stays_one_trace_when_its_relay_dies(
    traced: Stack, relay: str, outcomes: list[str]
) -> None:
    # Given a relay that is killed before it publishes the event, or before it marks it as sent
    traced.start("api", "order-worker", "inventory-worker", "inventory-relay", "beat")
    traced.start("order-relay", module=f"testkit.programs.crashing.{relay}")

    # When an order is placed, and the relay is restarted
    order_id = traced.place(("TEA", 3))
    traced.wait_until_killed("order-relay")
    traced.start("order-relay")
    assert traced.decided(order_id) == ("CONFIRMED", None)

    # Then every delivery is in one trace, and the effects are below the publication that survived,
    # which is below the request
    def one_trace() -> None:
        order_spans = spans(traced, order_id)
        attempts = [s for s in order_spans if s.name == "process order.created"]
        assert [span.attributes["outcome"] for span in attempts] == outcomes
        assert set(links(order_spans)) >= {
            ("order-api", "POST /orders", None),
            ("order-relay", "publish order.created", "POST /orders"),
            ("inventory-worker", "process order.created", "publish order.created"),
            ("inventory-relay", "publish stock.reserved", "process order.created"),
            ("order-worker", "process stock.reserved", "publish stock.reserved"),
            ("order-relay", "publish order.confirmed", "process stock.reserved"),
        }
        assert len({span.trace_id for span in order_spans}) == 1

    eventually(one_trace)


def test_a_worker_exports_its_spans_at_shutdown(traced: Stack) -> None:
    # Given a worker that exports its spans only at shutdown
    traced.start("api", "order-relay", "beat")
    traced.start("inventory-worker", module="testkit.programs.delayed_spans.inventory_worker")
    order_id = traced.place(("TEA", 1))
    eventually(lambda: _assert_reserved(traced, 1))

    # When it is shut down
    traced.shut_down("inventory-worker")

    # Then its spans are in the store
    assert ("inventory-worker", "process order.created") in {
        (span.service, span.name) for span in spans(traced, order_id)
    }


def test_tracing_adds_no_header_without_an_endpoint(stack: Stack) -> None:
    # Given a system without an inventory worker, and without tracing
    stack.stock(TEA=10)
    stack.start("api", "order-relay", "beat")

    # When an order's event is published
    order_id = stack.place(("TEA", 1))
    message = eventually(lambda: _waiting(stack, "inventory.queue"))

    # Then it has the headers of Celery alone
    assert "traceparent" not in message.headers
    # And the envelope contains a trace
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
