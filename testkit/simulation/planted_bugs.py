"""Bugs that the simulator must find: each replaces one rule of the real code."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

from sqlalchemy.orm import Session

from common.events import OrderCancelled
from eventbus.consumer import receive
from eventbus.consumer.inbox import first_deliveries
from eventbus.events.envelope import Event
from eventbus.messaging.copy_channel import Copy
from eventbus.messaging.in_flight import InFlight, Report
from eventbus.outbox import queries
from eventbus.outbox.claims import Claim, Claims, Rows
from eventbus.outbox.outcomes import Outcomes
from eventbus.outbox.relay import Relay
from eventbus.topology.service import PARKED
from eventbus.worker import acknowledgements, settlement
from eventbus.worker.consumer_connection import ConsumerConnection
from eventbus.worker.micro_batches import MicroBatches
from eventbus.worker.settlement import Receipt, Settlement
from inventory_worker import reservations
from inventory_worker.decisions import Decisions
from inventory_worker.domain import Status, changes
from testkit.simulation import processes

Bug = Callable[[], AbstractContextManager[object]]
Deliveries = Iterable[tuple[Event, int]]


def no_dedup() -> AbstractContextManager[object]:
    """Handle every delivery as if it were the first."""

    def all_new(session: Session, deliveries: Deliveries) -> set[UUID]:
        known = list(deliveries)
        first_deliveries(session, known)
        return {event.id for event, _ in known}

    return patch.object(receive, "first_deliveries", all_new)


def inbox_row_in_another_transaction() -> AbstractContextManager[object]:
    """Commit the inbox row before the effect."""

    def committed(session: Session, deliveries: Deliveries) -> set[UUID]:
        with Session(session.get_bind()) as own, own.begin():
            return first_deliveries(own, deliveries)

    return patch.object(receive, "first_deliveries", committed)


def ack_before_commit() -> AbstractContextManager[object]:
    """Acknowledge a batch when it is sent to a child."""
    send = MicroBatches._send

    def send_acknowledged(batches: Any, batch: Any) -> None:
        batches._connection.acknowledge([inbound.receipt.message for inbound in batch])
        send(batches, batch)

    return patch.object(MicroBatches, "_send", send_acknowledged)


@contextmanager
def acks_on_a_later_connection() -> Iterator[None]:
    """Settle the deliveries of an ended connection on the next connection."""

    def latest(message: Any) -> Any:
        return message.life._consumer.channel

    with (
        patch.object(ConsumerConnection, "close", lambda _: None),
        patch.object(acknowledgements, "_channel", latest),
    ):
        yield


def ack_before_copy() -> AbstractContextManager[object]:
    """Acknowledge a failed message before its copy is confirmed."""
    settle = Settlement._settle

    def settle_acknowledged(own: Any, receipt: Receipt, *args: Any, **changes: Any) -> None:
        receipt.acknowledge()
        settle(own, receipt, *args, **changes)

    return patch.object(Settlement, "_settle", settle_acknowledged)


def retry_to_the_topic() -> AbstractContextManager[object]:
    """Publish a retry to all services."""

    def make(message: Any, exchange: str, routing_key: str, *rest: Any) -> Copy:
        if routing_key != PARKED:
            exchange, routing_key = "orders.topic", message.headers["task"]
        return Copy(message, exchange, routing_key, *rest)

    return patch.object(settlement, "Copy", make)


def mark_before_confirm() -> AbstractContextManager[object]:
    """Mark events as sent when they are published."""
    send = Relay._send

    def send_marked(relay: Any, claimed: Claims) -> Claim:
        claim = send(relay, claimed)
        if claim.rows:
            claimed.mark_sent(claim.rows)
        return claim

    return patch.object(Relay, "_send", send_marked)


def mark_all_of_a_batch() -> AbstractContextManager[object]:
    """Mark every event of a settled batch as sent."""
    record = Outcomes.record

    def record_all(outcomes: Any, claimed: Claims, batch: Any, report: Report) -> int:
        report.confirmed |= {row.event_id for row in batch.rows}
        return record(outcomes, claimed, batch, report)

    return patch.object(Outcomes, "record", record_all)


def returns_ignored() -> AbstractContextManager[object]:
    """Count a returned event as confirmed."""

    def ack(in_flight: Any, tag: int, multiple: bool) -> None:
        in_flight.report.confirmed |= {i for i, _ in in_flight._take(tag, multiple)}

    return patch.object(InFlight, "ack", ack)


def later_events_not_held() -> AbstractContextManager[object]:
    """Claim an event although an earlier event of its order is unsent."""
    bug = copy(queries.WHOLE.claim)
    bug._name = "claim_any_in_outbox"
    for name in ("_prepare", "_execute"):
        text = getattr(bug, name).replace("claim_in_outbox", bug._name)
        never = text.replace("earlier.id + 0 < outbox.id", "false")
        setattr(bug, name, never)
    return patch.object(queries, "WHOLE", replace(queries.WHOLE, claim=bug))


def later_events_not_released() -> AbstractContextManager[object]:
    """Release no event behind a sent event, either immediately or in a later drain."""

    def keep(_claims: Any, _rows: Rows) -> None:
        pass

    def examine(_claims: Any, _after: int, _limit: int) -> int:
        return 0

    return patch.multiple(Claims, release=keep, release_free=examine)


def retention_below_the_dedup_window() -> AbstractContextManager[object]:
    """Delete inbox rows after a day."""
    return patch.object(processes, "INBOX_DAYS", 1)


def no_tombstone() -> AbstractContextManager[object]:
    """Forget a cancelled order that is unknown."""
    take = Decisions.take

    def take_known(decisions: Any, event: Event) -> None:
        if isinstance(event.data, OrderCancelled) and event.subject not in decisions.reservations:
            return
        take(decisions, event)

    return patch.object(Decisions, "take", take_known)


def released_twice() -> AbstractContextManager[object]:
    """Return the units of a cancelled order to the stock twice."""

    def doubled(before: Any, after: Any) -> Any:
        found = list(changes(before, after))
        return found + found if after.status is Status.RELEASED else found

    return patch.object(reservations, "changes", doubled)


BUGS: tuple[Bug, ...] = (
    no_dedup,
    inbox_row_in_another_transaction,
    ack_before_commit,
    acks_on_a_later_connection,
    ack_before_copy,
    retry_to_the_topic,
    mark_before_confirm,
    mark_all_of_a_batch,
    returns_ignored,
    later_events_not_held,
    later_events_not_released,
    retention_below_the_dedup_window,
    no_tombstone,
    released_twice,
)
