"""The flow of an order as steps and as a drawing, masked addresses, and the form of orders."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from console.broker.parked_message import Parked
from console.errors import ActionError
from console.ledger.account import Place
from console.orders.address import entered, masked
from console.orders.delivery import Delivery, waiting
from console.orders.flow import API, LIMIT, Outcome, flow
from console.orders.journal import Handled, Sent
from console.web.orders.drawing import described, draw
from console.web.orders.form import Form
from order_app.storage.search import spellings
from span_store.models import SpanRow

PLACED_AT = datetime(2026, 11, 29, 3, tzinfo=UTC)
ORDER_ID = uuid4()


def sent(event_type: str, source: str, ms: int, *, is_sent: bool = True) -> Sent:
    at = PLACED_AT + timedelta(milliseconds=ms)
    return Sent(
        id=uuid4(),
        type=event_type,
        order_id=ORDER_ID,
        source=source,
        created_at=at,
        sent_at=at if is_sent else None,
        problem="" if is_sent else "order-relay is not running",
    )


def handled(event: Sent, service: str, ms: int, attempts: int = 1) -> Delivery:
    at = PLACED_AT + timedelta(milliseconds=ms)
    handling = Handled(handled_at=at, attempts=attempts)
    return Delivery(event=event, service=service, place=Place.HANDLED, handled=handling)


def failed(event: Sent, attempt: int, ms: int, outcome: str = "retry") -> SpanRow:
    return SpanRow(
        trace_id="t",
        span_id=f"{attempt}-{ms}",
        service="inventory-worker",
        name="process",
        started_at=PLACED_AT + timedelta(milliseconds=ms - 1),
        microseconds=1000,
        status="error",
        reason="Transient: locked",
        attributes={"event.id": str(event.id), "attempt": attempt, "outcome": outcome},
    )


CREATED = sent("order.created", "order", 0)
RESERVED = sent("stock.reserved", "inventory", 40)
CONFIRMED = sent("order.confirmed", "order", 60)


def test_the_steps_are_in_the_order_of_their_times() -> None:
    # Given a confirmed order
    deliveries = [
        handled(CREATED, "notification", 20),
        handled(CREATED, "inventory", 39),
        handled(RESERVED, "order", 55),
        handled(CONFIRMED, "notification", 70),
    ]

    # When its flow is determined
    steps = [described(step) for step in flow(PLACED_AT, deliveries).steps]

    # Then each event leads from its source to its consumers
    after = "after the order was placed"
    assert steps == [
        f"order.created from order-api to notification: handled, 20 ms {after}",
        f"order.created from order-api to inventory: handled, 39 ms {after}",
        f"stock.reserved from inventory to order: handled, 55 ms {after}",
        f"order.confirmed from order to notification: handled, 70 ms {after}",
    ]


def test_failed_attempts_are_steps_of_their_service() -> None:
    # Given an event that was handled at the third attempt, with the spans of the failed ones
    deliveries = [handled(CREATED, "inventory", 6000, attempts=3)]
    spans = [failed(CREATED, 2, 1000), failed(CREATED, 1, 10), failed(RESERVED, 1, 10)]

    # When its flow is determined
    steps = flow(PLACED_AT, deliveries, spans).steps

    # Then the first step comes from the publisher, and the others begin at the service
    assert [(step.sender, step.outcome, step.text) for step in steps] == [
        (API, Outcome.FAILED, "attempt 1 failed: Transient: locked"),
        (None, Outcome.FAILED, "attempt 2 failed: Transient: locked"),
        (None, Outcome.HANDLED, "handled at attempt 3"),
    ]


def test_failed_attempts_without_spans_are_counted() -> None:
    steps = flow(PLACED_AT, [handled(CREATED, "inventory", 6000, attempts=3)]).steps

    assert [step.text for step in steps] == ["2 attempts failed", "handled at attempt 3"]


def test_an_outage_does_not_hide_the_end_of_a_flow() -> None:
    deliveries = [handled(CREATED, "inventory", 900_000)]
    spans = [failed(CREATED, 1, 1000 * n, "paused") for n in range(1, 2 * LIMIT)]

    steps = flow(PLACED_AT, deliveries, spans).steps

    assert steps[-1].text == "handled"
    assert len(steps) < LIMIT


def test_a_parked_event_and_a_waiting_one_end_with_their_places() -> None:
    # Given a parked event, and one that is not sent
    message = Parked(
        service="notification",
        id="e-1",
        type="order.created",
        order_id=str(ORDER_ID),
        exception="ValueError",
        text="no way",
        attempts=5,
        first_failed_at=None,
        last_failed_at="2026-11-29T03:00:30+00:00",
        release="r1",
        frame=None,
    )
    unsent = sent("order.confirmed", "order", 60, is_sent=False)
    parked = Delivery(event=CREATED, service="notification", place=Place.PARKED, message=message)
    deliveries = [
        parked,
        Delivery(event=unsent, service="notification", place=Place.UNSENT, problem=unsent.problem),
    ]

    # When the flow is determined
    steps = flow(PLACED_AT, deliveries).steps

    # Then the places and reasons are the last steps
    assert [(step.outcome, described(step)) for step in steps] == [
        (
            Outcome.WAITING,
            "order.confirmed from order to notification: unsent in the outbox of order:"
            " order-relay is not running",
        ),
        (
            Outcome.FAILED,
            "order.created from order-api to notification: parked at notification:"
            " ValueError: no way (attempt 5), 30 s after the order was placed",
        ),
    ]


def test_an_unsent_event_waits_once_for_all_of_its_consumers() -> None:
    event = sent("order.created", "order", 0, is_sent=False)
    deliveries = [
        Delivery(event=event, service=name, place=Place.UNSENT) for name in ("inventory", "fraud")
    ]

    assert waiting([*deliveries, handled(RESERVED, "order", 1)]) == (deliveries[0],)


def test_arrows_lead_from_lifeline_to_lifeline() -> None:
    # Given a flow to the right, back to the left, and within one participant
    deliveries = [handled(CREATED, "inventory", 30, attempts=2), handled(RESERVED, "order", 50)]
    drawing = draw(flow(PLACED_AT, deliveries, [failed(CREATED, 1, 10)]))

    # When the arrows are drawn
    x = {line.name: line.x for line in drawing.lifelines}
    first, loop, back = drawing.arrows

    # Then they start and end at the lines of their participants, one below the other
    assert list(x) == [API, "order", "inventory"]
    assert first.path.startswith(f"M{x[API]},{first.y} ")
    assert first.head.startswith(f"{x['inventory']},{first.y} ")
    assert loop.path.startswith(f"M{x['inventory']},")
    assert back.head.startswith(f"{x['order']},{back.y} ")
    assert first.y < loop.y < back.y < drawing.height
    assert (first.caption, back.caption) == ("attempt 1 failed \N{MIDDLE DOT} 10 ms", "50 ms")


def test_a_flow_without_events_has_no_arrows() -> None:
    assert draw(flow(PLACED_AT, [])).arrows == ()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("john@example.com", "j***@example.com"),
        ("j@example.com", "j***@example.com"),
        ('"a@b"@example.com', '"***@example.com'),
    ],
)
def test_a_masked_address_keeps_its_first_letter_and_domain(address: str, shown: str) -> None:
    assert masked(address) == shown


def test_an_address_is_read_as_the_api_stores_it() -> None:
    assert entered(" Ada@EXAMPLE.com ") == "Ada@example.com"
    with pytest.raises(ActionError) as error:
        entered("ada lovelace")
    assert "ada" not in str(error.value).replace("email address", "")


def test_the_spellings_of_an_address_differ_in_capitals_only() -> None:
    assert spellings("ada.King@example.com") == (
        "ada.King@example.com",
        "ada.king@example.com",
        "Ada.king@example.com",
        "Ada.King@example.com",
    )
    assert spellings("1@example.com") == ("1@example.com",)


def test_the_form_distinguishes_an_id_from_an_address() -> None:
    order_id = "0198a7c1-0000-7000-8000-000000000001"

    assert Form.of({"find": f" {order_id} "}).order_id() == UUID(order_id)
    assert Form.of({"id": order_id}).is_order
    assert not Form.of({"find": "ada@example.com"}).is_order
    assert Form.of({}).is_empty
    assert Form.of({"since": "2026-11-29T03:00"}).criteria().since == PLACED_AT
    assert Form.of({"until": "2026-11-29T04:00+01:00"}).criteria().until == PLACED_AT
