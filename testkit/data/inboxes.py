"""An inbox, one event at a time."""

from sqlalchemy.orm import Session

from eventbus.consumer.inbox import first_deliveries
from eventbus.events.envelope import Event


def first_delivery(session: Session, event: Event, *, attempts: int) -> bool:
    """Record an event in the caller's transaction. Return False if it was recorded before."""
    return event.id in first_deliveries(session, [(event, attempts)])
