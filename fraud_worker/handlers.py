"""The fraud check's handlers, which judge orders and publish suspicions."""

from collections.abc import Callable, Sequence
from functools import cache

from sqlalchemy.orm import Session

from common import events
from common.events import FraudSuspected, OrderCreatedV2
from eventbus.consumer.receive import BatchHandler, Handlers
from eventbus.events.envelope import Event
from eventbus.outbox.table import append
from eventbus.settings.base import load
from fraud_worker import judgements
from fraud_worker.declaration import FRAUD
from fraud_worker.domain import Limits, Sign, score, signs
from fraud_worker.judgements import Candidate
from fraud_worker.settings import LimitSettings


class Judge:
    """The judge of orders, by limits that are loaded with the first order."""

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits

    def on_orders_created(self, session: Session, created: Sequence[Event]) -> None:
        """Judge orders, and orders whose counts they change; each is suspected at most once."""
        limits = self._limits()
        fresh = judgements.record(session, created)
        suspected = []
        for candidate in judgements.candidates(session, fresh, limits):
            broken = signs(candidate.facts, limits)
            if score(broken) >= limits.score:
                suspected.append(candidate.order_id)
                append(session, _suspicion(candidate, broken))
        if suspected:
            judgements.suspect(session, suspected)


def _suspicion(candidate: Candidate, broken: Sequence[Sign]) -> Event:
    # The cause is the order's own event, even if the event of another order changed its counts.
    return Event(
        source=FRAUD.name,
        subject=candidate.order_id,
        sequence=1,
        traceparent=candidate.traceparent,
        causationid=candidate.event_id,
        # A live order is not history, even if an order from history changed its counts.
        replayed=candidate.replayed,
        data=FraudSuspected(
            customer_email=candidate.customer_email,
            currency=candidate.facts.currency,
            total=candidate.facts.total,
            client_ip=candidate.client_ip,
            score=score(broken),
            reasons=tuple(
                events.Suspicion(rule=sign.rule.value, found=sign.found, limit=sign.limit)
                for sign in broken
            ),
        ),
    )


@cache
def _limits() -> Limits:
    # The worker has validated the limits at its start.
    return load(LimitSettings).limits


_judge = Judge(_limits)

HANDLERS: Handlers = {OrderCreatedV2: BatchHandler(_judge.on_orders_created)}
