"""Parked messages of single events, selected by an operator."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amqp import Message

from console.broker.other_readers import unread
from console.broker.parked_message import Parked, body_bytes, event_id
from console.broker.parking_lot import ParkingLot
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.topology.service import Service

#: Maximum number of chosen messages, and maximum total size of their bodies in bytes. All of them
#: are kept in memory. One event may be parked several times.
LIMIT, BYTES_LIMIT = 1_000, 16 * 1024 * 1024

#: Maximum number of bodies of one event that an error lists, and maximum number of characters of
#: the cause of each.
_BODIES_LISTED, _CAUSE_LIMIT = 10, 100


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Chosen messages, oldest first, and the reasons why other messages were not chosen."""

    messages: list[Message]
    #: Number of messages of the same events beyond the limits.
    more: int
    #: A text that lists the events that are not parked. Empty if all are parked.
    missing: str
    #: The events with other messages that stay parked, because they have another body or are beyond
    #: the limits.
    left: set[str]


def choose(
    settings: BrokerAdminSettings,
    service: Service,
    lot: ParkingLot,
    event_ids: Iterable[str],
    digest: str | None = None,
) -> Choice:
    """Return the messages of these events, at most `LIMIT` with at most `BYTES_LIMIT` bytes.

    With `digest`, only messages whose body has this SHA-256 are returned. The entire parking lot is
    read, and one message is in memory in addition to the chosen messages. Raises `ActionError`
    listing the bodies if an event is parked with several different bodies: an operator has seen at
    most one of them.
    """
    missing, chosen, size, more = set(event_ids), list[Message](), 0, 0
    left = set[str]()
    bodies: defaultdict[str, dict[str, Parked]] = defaultdict(dict)
    requested = frozenset(missing)
    for message in lot.scan():
        if event_id(message) not in requested:
            continue
        parked = Parked.of(service, message)
        if digest not in (None, parked.digest):
            left.add(parked.id)
            continue
        missing.discard(parked.id)
        if len(bodies[parked.id]) <= _BODIES_LISTED:
            bodies[parked.id][parked.digest] = parked
        size += len(body_bytes(message))
        if more or len(chosen) == LIMIT or (chosen and size > BYTES_LIMIT):
            more += 1
            left.add(parked.id)
        else:
            chosen.append(message)
    _check(bodies)
    return Choice(
        messages=chosen,
        more=more,
        missing=_missing(settings, service, lot, sorted(missing)),
        left=left,
    )


def _check(bodies: Mapping[str, Mapping[str, Parked]]) -> None:
    for name, found in bodies.items():
        if len(found) > 1:
            listed = [_described(parked) for parked in found.values()][:_BODIES_LISTED]
            raise ActionError(
                f"{name} is parked with different bodies; specify the digest of one:"
                f" {', '.join(listed)}{' and more' * (len(found) > len(listed))}"
            )


def _described(parked: Parked) -> str:
    cause = " ".join(f"{parked.type}, {parked.failure}".split())
    return f"{parked.digest} ({cause[:_CAUSE_LIMIT]})"


def _missing(
    settings: BrokerAdminSettings, service: Service, lot: ParkingLot, event_ids: Sequence[str]
) -> str:
    if not event_ids:
        return ""
    problem = f"not parked by {service.name}: {', '.join(event_ids)}"
    others = unread(settings, service, lot)
    return f"{problem}; {others}" if others else problem
