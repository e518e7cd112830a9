"""The handlers of the events that the order service consumes."""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy.orm import Session

from common.events import StockRejected, StockReleased, StockReserved
from eventbus.consumer.receive import BatchHandlers, Handlers
from eventbus.events.envelope import Event
from order_app import use_cases
from order_app.domain import Reason
from order_app.events import Cause


def on_stock_reserved(session: Session, event: Event) -> None:
    """Confirm the order, unless it has been cancelled."""
    on_stocks_reserved(session, [event])


def on_stocks_reserved(session: Session, reserved: Sequence[Event]) -> None:
    """Confirm the orders, except those that have been cancelled."""
    use_cases.confirm_all(session, {e.subject: Cause.of(e) for e in reversed(reserved)})


def on_stock_rejected(session: Session, event: Event) -> None:
    """Cancel the order because it is out of stock, and pass on the shortages."""
    assert isinstance(event.data, StockRejected)  # noqa: S101  # ensured by HANDLERS
    use_cases.cancel(
        session,
        event.subject,
        Reason.OUT_OF_STOCK,
        cause=Cause.of(event),
        shortages=event.data.shortages,
    )


def on_stock_released(session: Session, event: Event) -> None:
    """Check that the order exists; the event's inbox row shows it in the order's timeline."""
    use_cases.get(session, event.subject)


def on_answers(session: Session, answers: Sequence[Event]) -> None:
    """Apply the inventory's replies to many orders, in their order."""
    runs = [(contract, list(run)) for contract, run in groupby(answers, key=lambda e: type(e.data))]
    if len(runs) > 1 or runs[0][0] is StockRejected:
        # All at once: otherwise they would be locked in the order of arrival, and could deadlock.
        use_cases.hold(session, {event.subject for event in answers})
    for contract, run in runs:
        if contract is StockReserved:
            on_stocks_reserved(session, run)
        else:
            for event in run:
                HANDLERS[contract](session, event)


HANDLERS: Handlers = {
    StockReserved: on_stock_reserved,
    StockRejected: on_stock_rejected,
    StockReleased: on_stock_released,
}

# The same handler for all types: a batch locks all its orders at once, sorted by id.
BATCH_HANDLERS: BatchHandlers = dict.fromkeys(HANDLERS, on_answers)
