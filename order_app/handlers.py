"""What the order service does about the events of others."""

from collections.abc import Callable, Sequence
from itertools import groupby

from sqlalchemy.orm import Session

from common.events import StockRejected, StockReleased, StockReserved
from eventbus.consumer.receive import BatchHandlers, Handlers
from eventbus.events.envelope import Event
from order_app import use_cases
from order_app.domain import Reason
from order_app.events import Cause

Handler = Callable[[Session, Event], None]


def on_stock_reserved(session: Session, event: Event) -> None:
    """Confirm the order, unless it was cancelled meanwhile."""
    on_stocks_reserved(session, [event])


def on_stocks_reserved(session: Session, reserved: Sequence[Event]) -> None:
    """Confirm many orders, but for those that were cancelled meanwhile."""
    use_cases.confirm_all(session, {e.subject: Cause.of(e) for e in reversed(reserved)})


def on_stock_rejected(session: Session, event: Event) -> None:
    """Cancel the order for want of stock, and pass on what was short."""
    assert isinstance(event.data, StockRejected)  # noqa: S101  # HANDLERS says so
    use_cases.cancel(
        session,
        event.subject,
        Reason.OUT_OF_STOCK,
        cause=Cause.of(event),
        shortages=event.data.shortages,
    )


def on_stock_released(session: Session, event: Event) -> None:
    """Change nothing: the event's inbox row shows it in the order's timeline."""
    use_cases.get(session, event.subject)


def on_answers(session: Session, answers: Sequence[Event]) -> None:
    """Do what the inventory's answers to many orders say, in their order."""
    runs = [(contract, list(run)) for contract, run in groupby(answers, key=lambda e: type(e.data))]
    if len(runs) > 1 or runs[0][0] is StockRejected:
        # All at once: one after another they would be locked in the order of their arrival.
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

# One for all: a batch locks its orders once and in one order.
BATCH_HANDLERS: BatchHandlers = dict.fromkeys(HANDLERS, on_answers)
