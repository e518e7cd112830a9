"""The result of a reconciliation, as a table and as one JSON document."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from console.ledger.account import Account, OpenEvent, Place
from console.ledger.agreement import Disagreements
from console.ledger.repair import Republished

#: Maximum number of missing events and disagreements that are listed; the counts include all.
LISTED = 100


@dataclass(frozen=True, kw_only=True)
class Report:
    """The places of each service's events, and the facts that disagree."""

    accounts: Sequence[Account]
    disagreements: Disagreements
    #: Number of missing events that were published again.
    repaired: list[Republished] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """The number of missing events; an event counts once for each service that lacks it."""
        return sum(account.counts[Place.MISSING] for account in self.accounts)

    @property
    def is_clear(self) -> bool:
        """Whether all missing events were published again, and all facts agree."""
        return self.missing == len(self.repaired) and not self.disagreements.count

    @property
    def is_conclusive(self) -> bool:
        """Whether the places of all events are known."""
        return not any(account.unproven or account.unexamined for account in self.accounts)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document; ages are in seconds."""
        now = datetime.now(UTC)
        return {
            "accounted": self.is_clear and self.is_conclusive,
            "services": [_account(account, now) for account in self.accounts],
            "repaired": [
                {"service": name, "id": str(event.id), "type": event.type}
                for name, event in self.repaired
            ],
            "disagreements": {
                "count": self.disagreements.count,
                "listed": [
                    {"order_id": str(found.order_id), "kind": found.kind, "text": found.text}
                    for found in self.disagreements.listed[:LISTED]
                ],
            },
        }

    def lines(self) -> Iterator[str]:
        """Yield a line for each missing event, each disagreement, and each unproven place."""
        now = datetime.now(UTC)
        for account in self.accounts:
            name = account.service.name
            for event in account.missing[:LISTED]:
                yield (
                    f"{name}: missing {event.type} {event.id} of the {event.outbox} service,"
                    f" sent {_age(event, now):.0f} s ago"
                )
            if (more := len(account.missing) - LISTED) > 0:
                yield f"{name}: {more} more events are missing"
            if account.unproven:
                count = account.counts[Place.IN_FLIGHT]
                yield f"{name}: {count} events count as in flight: {account.unproven}"
            if account.unexamined:
                yield f"{name}: {account.unexamined} of them were not examined one by one"
            if account.parked_duplicates:
                yield f"{name}: {account.parked_duplicates} parked events were also handled"
        for found in self.disagreements.listed[:LISTED]:
            yield f"order {found.order_id}: {found.text}"
        if (more := self.disagreements.count - LISTED) > 0:
            yield f"{more} more disagreements"


def _account(account: Account, now: datetime) -> dict[str, Any]:
    return {
        "service": account.service.name,
        **{place.name.lower(): account.counts[place] for place in Place},
        "missing_events": [
            {
                "id": str(event.id),
                "type": event.type,
                "outbox": event.outbox,
                "age": round(_age(event, now), 1),
            }
            for event in account.missing[:LISTED]
        ],
        "parked_duplicates": account.parked_duplicates,
        "unexamined": account.unexamined,
        "unproven": account.unproven or None,
    }


def _age(event: OpenEvent, now: datetime) -> float:
    return max(0.0, (now - event.sent_at).total_seconds())
