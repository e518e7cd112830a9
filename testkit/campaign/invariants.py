"""The invariants: each is a function of the evidence that yields its violations."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from console.ledger.account import Place
from notification_worker.domain import Status as MailStatus
from order_app.domain import Reason, Status
from testkit.campaign.evidence import Evidence, StoredOrder
from testkit.campaign.history import Action, Outcome
from testkit.campaign.system import DATABASE

#: Maximum number of ids in a message; more ids are only counted.
_NAMED = 5

#: Seconds from a deadline to the decision. After an outage of the sweep or of its database, the
#: sweep waits for four seconds, and a program may take ten to start on a busy machine.
_LATEST, _RETURN = 5.0, 14.0

#: Maximum number of messages for each event, and number of additional messages for each fault: two
#: full batches of a relay, which are sent again if their confirms or marks are lost.
_MESSAGES, _AGAIN = 1.1, 1_000

#: The places in which an event may be at rest, if it is not missing.
_AT_REST = {Place.HANDLED, Place.PARKED, Place.MISSING}

#: The program and the server that the sweep of overdue orders needs.
_SWEEP = {"order-relay", DATABASE}

#: Maximum number of emails that a mailer sends at the same time, over as many connections.
_SENDING = 8


class Kind(StrEnum):
    """The kinds of violations."""

    LOST = "lost"
    DOUBLED = "doubled"
    STUCK = "stuck"
    #: The events are in the wrong order, or a response is wrong.
    WRONG = "wrong"


@dataclass(frozen=True)
class Violation:
    """A violation of one invariant, with the ids of the objects that it concerns."""

    invariant: str
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.kind}: {self.text}"


Invariant = Callable[[Evidence], Iterator[Violation]]


def each_request_has_its_order(evidence: Evidence) -> Iterator[Violation]:
    """I1: an OK placement made one order, an unknown placement at most one, a failed one none."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for order in evidence.orders:
        found[order.email].append(order.id)
    placements = [r for r in evidence.requests if r.action is Action.PLACE]
    for request in placements:
        ids = found.pop(request.email, [])
        if request.outcome is Outcome.OK and request.order_id not in ids:
            yield Violation("I1", Kind.LOST, f"order {request.order_id} was accepted")
        if len(ids) > (request.outcome is not Outcome.FAILED):
            yield Violation(
                "I1", Kind.DOUBLED, f"the {request.outcome} request of {request.email} placed {ids}"
            )
    if unexpected := [order_id for ids in found.values() for order_id in ids]:
        yield Violation("I1", Kind.DOUBLED, f"no request placed {_named(unexpected)}")


def each_change_is_kept(evidence: Evidence) -> Iterator[Violation]:
    """I1: an order that was cancelled or shipped for a client remains so."""
    final = {Action.CANCEL: Status.CANCELLED, Action.SHIP: Status.SHIPPED}
    statuses = {order.id: order.status for order in evidence.orders}
    for request in evidence.requests:
        wanted = final.get(request.action)
        if wanted and request.outcome is Outcome.OK and statuses.get(request.order_id) != wanted:
            status = statuses.get(request.order_id)
            text = f"order {request.order_id} is {status} after a successful {request.action}"
            yield Violation("I1", Kind.LOST, text)


def each_order_is_decided_in_time(evidence: Evidence) -> Iterator[Violation]:
    """I2: no order is PENDING five seconds after its deadline, while the sweep can work."""
    # A confirmed order that a customer cancels later has the time of its cancellation.
    orders = (order for order in evidence.orders if order.reason != Reason.CUSTOMER)
    late = [
        order.id
        for order in orders
        if order.decided_at is None or order.decided_at > _limit(evidence, order)
    ]
    if late:
        yield Violation("I2", Kind.STUCK, f"decided too late: {_named(late)}")


def each_event_has_its_place(evidence: Evidence) -> Iterator[Violation]:
    """I3: at rest, each event is in the inbox or the parking lot of each service it is for."""
    for account in evidence.accounts:
        name = account.service.name
        if account.missing:
            ids = _named(f"{event.type} {event.id}" for event in account.missing)
            yield Violation("I3", Kind.LOST, f"missing in {name}: {ids}")
        others = {each.value: n for each, n in account.counts.items() if n and each not in _AT_REST}
        if others or account.unproven:
            text = f"events of {name} are elsewhere: {others} {account.unproven}"
            yield Violation("I3", Kind.STUCK, text)


def the_stock_matches_the_orders(evidence: Evidence) -> Iterator[Violation]:
    """I4: reserved units belong to CONFIRMED orders, and shipped units have been deducted."""
    held, shipped = _pieces(evidence, Status.CONFIRMED), _pieces(evidence, Status.SHIPPED)
    for sku, received in evidence.received.items():
        on_hand, reserved = evidence.levels.get(sku, (0, 0))
        wanted = received - shipped[sku], held[sku]
        if (on_hand, reserved) != wanted or not 0 <= reserved <= on_hand:
            more = reserved > wanted[1] or on_hand < wanted[0]
            text = f"{sku}: on hand and reserved are {(on_hand, reserved)}, not {wanted}"
            yield Violation("I4", Kind.DOUBLED if more else Kind.LOST, text)
    if evidence.unexplained_levels:
        text = f"levels are not the sums of movements: {_named(evidence.unexplained_levels)}"
        yield Violation("I4", Kind.DOUBLED, text)


def the_services_agree(evidence: Evidence) -> Iterator[Violation]:
    """I4, I5, I7: each order agrees with its reservation, its notifications and analytics."""
    found = evidence.disagreements
    if found.count:
        texts = [f"order {each.order_id}: {each.text}" for each in found.listed]
        yield Violation("I5", Kind.LOST, _named(texts))


def each_mail_arrives(evidence: Evidence) -> Iterator[Violation]:
    """I5: each sent notification is one email, and is repeated only if the mailer has died."""
    counted = Counter((mail.order_id, mail.kind) for mail in evidence.notifications)
    if doubled := [f"{order_id} {kind}" for (order_id, kind), n in counted.items() if n > 1]:
        yield Violation("I5", Kind.DOUBLED, f"several notifications: {_named(doubled)}")
    sent = {m.message_id for m in evidence.notifications if m.status == MailStatus.SENT}
    if lost := [str(message_id) for message_id in sent if message_id not in evidence.mails]:
        yield Violation("I5", Kind.LOST, f"emails marked as sent: {_named(lost)}")
    repeated = {i: n - 1 for i, n in evidence.mails.items() if n > 1}
    if sum(repeated.values()) > evidence.mailer_restarts * _SENDING:
        restarts = evidence.mailer_restarts
        text = f"emails repeated with {restarts} restarts of the mailer: {_named(repeated)}"
        yield Violation("I5", Kind.DOUBLED, text)


def sequences_rise(evidence: Evidence) -> Iterator[Violation]:
    """I6: an order's events from one source are numbered 1, 2, … and first appear in this order."""
    recorded: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for event in evidence.events:
        recorded[event.source, event.subject].append(event.sequence)
    for (source, subject), sequences in recorded.items():
        if sequences != list(range(1, len(sequences) + 1)):
            text = f"the {source} service has recorded {sequences} of order {subject}"
            yield Violation("I6", Kind.WRONG, text)
    known, latest = set(), Counter[tuple[str, str]]()
    for sent in evidence.published:
        key = sent.source, str(sent.subject)
        if sent.id not in known and sent.sequence < latest[key]:
            text = f"{sent.type} {sent.id} follows sequence {latest[key]} of {key[1]}"
            yield Violation("I6", Kind.WRONG, text)
        known.add(sent.id)
        latest[key] = max(latest[key], sent.sequence)


def the_figures_equal_a_recount(evidence: Evidence) -> Iterator[Violation]:
    """I7: the analytics' figures equal the figures of the orders."""
    kept = [o for o in evidence.orders if o.status in (Status.CONFIRMED, Status.SHIPPED)]
    cancelled = [o for o in evidence.orders if o.status == Status.CANCELLED]
    rejected = sum(order.reason == Reason.OUT_OF_STOCK for order in cancelled)
    revenue = sum(order.total for order in kept)
    wanted = len(evidence.orders), len(kept), revenue, rejected, len(cancelled) - rejected
    if evidence.figures != wanted:
        more = evidence.figures[0] > wanted[0] or evidence.figures[2] > wanted[2]
        text = f"placed, confirmed, revenue, rejected, cancelled: {evidence.figures}, not {wanted}"
        yield Violation("I7", Kind.DOUBLED if more else Kind.LOST, text)


def each_cause_is_known(evidence: Evidence) -> Iterator[Violation]:
    """I8: an event that caused another event is in an outbox."""
    known = {event.id for event in evidence.events}
    if lost := [event.id for event in evidence.events if event.cause and event.cause not in known]:
        yield Violation("I8", Kind.LOST, f"the causes of {_named(lost)}")


def responses_are_polite(evidence: Evidence) -> Iterator[Violation]:
    """I10: the only server error is 503."""
    for request in evidence.requests:
        if wrong := [status for status in request.statuses if status >= 500 and status != 503]:
            text = f"{request.action} {request.email or request.order_id}: {wrong}"
            yield Violation("I10", Kind.WRONG, text)


def messages_are_bounded(evidence: Evidence) -> Iterator[Violation]:
    """I11: the number of messages equals the number of events, except after faults."""
    limit = _MESSAGES * len(evidence.events) + evidence.resent + _AGAIN * len(evidence.injected)
    if len(evidence.published) > limit:
        text = f"{len(evidence.published)} messages of {len(evidence.events)} events"
        yield Violation("I11", Kind.DOUBLED, text)


#: The invariants that hold at any time.
ALWAYS: tuple[Invariant, ...] = (
    each_request_has_its_order,
    each_change_is_kept,
    each_order_is_decided_in_time,
    sequences_rise,
    each_cause_is_known,
    responses_are_polite,
    messages_are_bounded,
)

#: The invariants that hold at rest.
AT_REST: tuple[Invariant, ...] = (
    each_event_has_its_place,
    the_stock_matches_the_orders,
    the_services_agree,
    each_mail_arrives,
    the_figures_equal_a_recount,
)


def check(evidence: Evidence, *, is_at_rest: bool) -> list[Violation]:
    """Return the violations of all invariants that apply."""
    invariants = ALWAYS + AT_REST if is_at_rest else ALWAYS
    return [violation for invariant in invariants for violation in invariant(evidence)]


def _limit(evidence: Evidence, order: StoredOrder) -> float:
    """Return the latest time at which an order may be decided."""
    limit = order.deadline_at
    for injection in sorted(evidence.injected, key=lambda each: each.began):
        if injection.fault.targets & _SWEEP and injection.began < limit + _LATEST:
            limit = max(limit, injection.ended + _RETURN)
    return limit + _LATEST


def _pieces(evidence: Evidence, status: Status) -> Counter[str]:
    pieces = Counter[str]()
    for order in evidence.orders:
        if order.status == status:
            pieces.update(order.lines)
    return pieces


def _named(ids: Iterable[str]) -> str:
    listed = list(ids)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
