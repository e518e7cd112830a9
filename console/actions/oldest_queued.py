"""The oldest event in a service's queue, from the outboxes and the inbox; no message is read."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on

from common.kombu_topology import SERVICES
from console.databases.service_database import Databases
from eventbus.consumer.inbox import inbox
from eventbus.outbox.lag import age
from eventbus.outbox.table import outbox
from eventbus.topology.service import Service

#: Number of the newest events in the inbox that are searched for the last event of each publisher.
_RECENT = 200

#: Number of events in the outbox, after the last handled event, that are searched for the oldest.
_NEXT = 500


def age_of_oldest(databases: Databases, service: Service) -> float | None:
    """Return the age in seconds of the oldest event that a service has yet to handle.

    It is the first event of a consumed type after the last handled event. An event that overtakes
    other events, such as a redriven event, hides them. Return 0 if there is no such event, and None
    for a service that has not handled an event yet. The cost is limited to one short transaction on
    the database of the service and of each publisher.
    """
    last = _last_handled(databases, service)
    ages = [
        _after(databases, sender, last[sender.name], sorted(types))
        for sender in SERVICES
        if sender.name in last
        and (types := set(sender.published_types).intersection(service.consumed_types))
    ]
    return max(ages, default=None)


def _last_handled(databases: Databases, service: Service) -> dict[str, UUID]:
    """Return the newest handled event of each publisher, among the newest `_RECENT`."""
    newest = (
        select(inbox.c.event_id, inbox.c.source)
        .order_by(inbox.c.handled_at.desc())
        .limit(_RECENT)
        .subquery()
    )
    # The events are sorted by id, because ids sort by time. PostgreSQL has no `max` for UUIDs.
    last = (
        select(newest.c.source, newest.c.event_id)
        .ext(distinct_on(newest.c.source))
        .order_by(newest.c.source, newest.c.event_id.desc())
    )
    with databases.transaction(service) as session:
        return dict(session.execute(last).all())


def _after(databases: Databases, sender: Service, last: UUID, types: Sequence[str]) -> float:
    """Return the age of the first sent event after the last, or 0; ids are sorted by time."""
    following: Any = (
        select(outbox.c.type, outbox.c.created_at, outbox.c.sent_at)
        .where(outbox.c.event_id > last)
        .order_by(outbox.c.event_id)
        .limit(_NEXT)
        .subquery()
    )
    # Without an event, the age is 0.
    oldest = select(age(func.min(following.c.created_at))).where(
        following.c.type.in_(types), following.c.sent_at.is_not(None)
    )
    with databases.transaction(sender) as session:
        return float(session.scalars(oldest).one())
