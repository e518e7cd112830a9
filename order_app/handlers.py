"""The handlers of the events that the order service consumes."""

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy.orm import Session

from common.events import StockRejected, StockReleased, StockReserved
from eventbus.consumer.receive import BatchHandler, Handlers
from eventbus.events.envelope import Event
from order_app import use_cases
from order_app.domain import Reason
from order_app.events import Cause


def on_answers(session: Session, answers: Sequence[Event]) -> None:
    """Apply the inventory's replies in sequence.

    Reserved stock confirms an order, and rejected stock cancels it, unless it is already decided.
    Released stock has no effect: the event's inbox row shows it in the order's timeline.
    """
    runs = [(contract, list(run)) for contract, run in groupby(answers, key=lambda e: type(e.data))]
    if len(runs) > 1 or runs[0][0] is StockRejected:
        # All orders are locked together. If they were locked in order of arrival, batches could
        # deadlock.
        use_cases.hold(session, {event.subject for event in answers})
    for contract, run in runs:
        if contract is StockReserved:
            use_cases.confirm_all(session, {e.subject: Cause.of(e) for e in reversed(run)})
        else:
            for event in run:
                _apply(session, event)


def _apply(session: Session, event: Event) -> None:
    match event.data:
        case StockRejected(shortages=shortages):
            cause = Cause.of(event)
            use_cases.cancel(
                session, event.subject, Reason.OUT_OF_STOCK, cause=cause, shortages=shortages
            )
        case _:
            # This raises an error if the order does not exist.
            use_cases.get(session, event.subject)


# All types have the same handler, so that a batch locks all its orders together, sorted by id.
HANDLERS: Handlers = dict.fromkeys(
    (StockReserved, StockRejected, StockReleased), BatchHandler(on_answers)
)
