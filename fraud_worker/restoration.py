"""The restoration of suspicions from the fraud check's own events."""

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from common.events import OrderCreatedV2
from eventbus.events.conversion import newest
from eventbus.events.envelope import Event
from fraud_worker import judgements


def restore(
    session: Session,
    suspicions: Sequence[Event],
    causes: Callable[[Collection[UUID]], Sequence[Event]],
) -> None:
    """Record the orders of these events as suspected, so that they are not suspected again.

    The facts about an order are in its own event, which `causes` returns by id. If the event of an
    order no longer exists, it is not delivered again, so the order needs no record.
    """
    found = map(newest, causes([event.causationid for event in suspicions if event.causationid]))
    created = [event for event in found if isinstance(event.data, OrderCreatedV2)]
    if created:
        judgements.record(session, created)
        judgements.suspect(session, [event.subject for event in created])
