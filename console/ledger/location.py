"""The location of open events: in the queues of their service, in the stream, or missing."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from console.broker.parked_message import Parked
from console.ledger.account import Account, Place
from console.ledger.books import PAGE, SENDERS, Books, uuids
from console.ledger.search import Found, search
from console.settings import BrokerAdminSettings
from eventbus.catch_up.overflow import Overflow


@dataclass(kw_only=True)
class Located:
    """The places of the open events of one service, as far as they are known."""

    places: dict[UUID, Place] = field(default_factory=dict)
    #: The reason why the other open events could not be examined. Empty if all were examined.
    unproven: str = ""
    #: Number of parked events that were also handled.
    parked_duplicates: int = 0
    #: The messages of events that are in a retry tier or parked, each with its last failure.
    messages: dict[UUID, Parked] = field(default_factory=dict)


def locate(
    settings: BrokerAdminSettings,
    books: Books,
    accounts: Sequence[Account],
    *,
    seconds: float,
    whole: bool = True,
    indexed: Collection[str] = (),
) -> dict[str, Located]:
    """Search the queues of these services for their open events, for at most `seconds`.

    An event is missing if it is not in a queue, not among the events still to be read from the
    stream, then not in the inbox, and still marked as sent. Raises `ActionError` if the broker
    cannot be reached, and the errors of the databases. `whole` and `indexed` have the same meaning
    as in `search`.
    """
    before = {a.service.name: books.overflow(a.service) for a in accounts}
    found = search(settings, accounts, seconds=seconds, whole=whole, indexed=indexed)
    return {
        a.service.name: _located(books, a, found[a.service.name], before[a.service.name])
        for a in accounts
    }


def locate_in_stream(books: Books, account: Account, positions: Mapping[str, int]) -> Located:
    """Return the places of the open events of a reader of the stream.

    The stream keeps the order of publishing, so an event that was appended after another event was
    sent follows that event in the stream. If the reader has the later event, it has read the
    earlier event, or the earlier event was never in the stream. `positions` are the last positions
    in the outboxes, read after the open events were found to be sent.
    """
    located = Located()
    for sender in SENDERS:
        ids = [event.id for event in account.open.values() if event.outbox == sender.name]
        if not ids:
            continue
        position = positions.get(sender.name)
        rows = [] if position is None else books.appended(sender, position)
        later = account.owed(row.event for row in rows)
        if not books.handled(account.service, [event.id for event in later]):
            located.places |= dict.fromkeys(ids, Place.IN_STREAM)
            continue
        located.places |= dict.fromkeys(ids, Place.MISSING)
        _add(located, _handled(books, account, ids), Place.HANDLED)
        _add(located, books.skipped(account.service).intersection(ids), Place.PARKED)
    return located


def _located(books: Books, account: Account, found: Found, before: Overflow | None) -> Located:
    after = books.overflow(account.service)
    parked = set(uuids(found.parked))
    # The inbox is read last, because it contains an event that has left a queue in the meantime.
    located = Located(parked_duplicates=len(_handled(books, account, parked)))
    located.messages |= {UUID(name): message for name, message in found.messages.items()}
    _add(located, account.open.keys() & set(uuids(found.retrying)), Place.RETRYING)
    _add(located, account.open.keys() & parked, Place.PARKED)
    _add(located, _handled(books, account, account.open), Place.HANDLED)
    rest = [event_id for event_id in account.open if event_id not in located.places]
    # A message is recorded as discarded before it leaves the parking lot.
    for page in pages(rest):
        _add(located, books.discarded(account.service, page), Place.DISCARDED)
    rest = [event_id for event_id in rest if event_id not in located.places]
    if after and after.requested_at:
        # The process of the service reads these events from the stream as soon as the queue has
        # room.
        _add(located, rest, Place.IN_STREAM)
    elif rest and _has_caught_up(before, after):
        located.unproven = "events were taken from the stream meanwhile"
    elif rest and found.unproven:
        located.unproven = found.unproven
    else:
        _add(located, rest, Place.UNSENT)
        _add(located, _sent(books, account, rest), Place.MISSING)
    return located


def _has_caught_up(before: Overflow | None, after: Overflow | None) -> bool:
    """Return whether events were dropped or copied between two states of a service's record."""
    if before is None or after is None:
        return False
    return (before.dropped_at, before.copied, before.finished_at) != (
        after.dropped_at,
        after.copied,
        after.finished_at,
    )


def _handled(books: Books, account: Account, ids: Iterable[UUID]) -> set[UUID]:
    return {i for page in pages(ids) for i in books.handled(account.service, page)}


def _sent(books: Books, account: Account, ids: Sequence[UUID]) -> set[UUID]:
    """Return the events that are still marked as sent. The relay sends all other events again."""
    sent: set[UUID] = set()
    for outbox in {account.open[event_id].outbox for event_id in ids}:
        mine = [event_id for event_id in ids if account.open[event_id].outbox == outbox]
        for page in pages(mine):
            sent |= {event.id for event in books.find(outbox, page) if event.sent_at}
    return sent


def _add(located: Located, ids: Iterable[UUID], place: Place) -> None:
    located.places |= dict.fromkeys(ids, place)


def pages(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    """Yield these ids, at most `PAGE` at a time."""
    listed = list(ids)
    for start in range(0, len(listed), PAGE):
        yield listed[start : start + PAGE]
