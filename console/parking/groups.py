"""Groups of parked messages with the same cause."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType

import msgspec

from console.broker.other_readers import unread
from console.broker.parked_message import Parked
from console.broker.parking_lot import parking_lot
from console.settings import BrokerAdminSettings
from eventbus.errors import WaitsBehind
from eventbus.topology.service import Service

#: Maximum number of groups of one service, which are in memory. Messages of an unknown publisher
#: may have any number of types and reasons. Beyond this number of groups, they share one group.
GROUP_LIMIT = 500

#: Maximum number of releases that a group lists, in the order of their appearance.
RELEASE_LIMIT = 10

#: The type and the failure of the group that all groups beyond the limit share.
OTHERS = "(others)"


#: Number of hexadecimal digits of a key, which is sufficient for millions of groups.
_KEY_DIGITS = 12

_NEVER: Mapping[str, datetime | None] = MappingProxyType({})


@dataclass(kw_only=True)
class Group:
    """Parked messages of one service with the same event type, failure and function.

    All messages that wait behind other messages form one group, regardless of their type.

    The times are the earliest and the latest failure, or None if no message has a valid time.
    """

    service: str
    type: str | None
    #: The class of the exception, or the reason of the broker.
    failure: str
    #: The function that failed; None if the messages do not name it.
    frame: str | None
    count: int = 0
    #: Number of messages that failed after `since`, the time up to which failures were counted
    #: before.
    new: int = 0
    since: datetime | None = None
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    #: The releases in which the messages last failed, at most `RELEASE_LIMIT`.
    releases: list[str] = field(default_factory=list)
    #: The event id and the reason of the newest message.
    example: str = ""
    text: str = ""

    @property
    def key(self) -> str:
        """The name of the group, unique in its service: a hash of its cause."""
        return key_of(self.type, self.failure, self.frame)

    @property
    def is_waiting(self) -> bool:
        """Whether its messages have not failed, but wait behind earlier events of their orders."""
        return self.failure == WaitsBehind.__name__

    def add(self, parked: Parked) -> None:
        """Count a message."""
        self.count += 1
        if self.since is None or (parked.last_failure and parked.last_failure > self.since):
            self.new += 1
        self.example, self.text = parked.id, parked.text
        moments = [m for m in (parked.first_failure, self.first_seen) if m]
        self.first_seen = min(moments, default=None)
        moments = [m for m in (parked.last_failure, self.last_seen) if m]
        self.last_seen = max(moments, default=None)
        release = parked.release
        if release and release not in self.releases and len(self.releases) < RELEASE_LIMIT:
            self.releases.append(release)


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The groups of a parking lot, as `grouped` returns them.

    `unread` is the result of `other_readers`.
    """

    groups: list[Group]
    unread: str


def groups(
    settings: BrokerAdminSettings,
    service: Service,
    since: Mapping[str, datetime | None] = _NEVER,
) -> Groups:
    """Return the groups of a service's parked messages, and leave all messages in place.

    The entire parking lot is read, with one message and at most `GROUP_LIMIT` groups in memory.
    `since` maps each key to the time up to which failures were already counted.
    """
    with parking_lot(settings, service) as lot:
        found = grouped((Parked.of(service, message) for message in lot.scan()), since)
        return Groups(groups=found, unread=unread(settings, service, lot))


def grouped(
    messages: Iterable[Parked], since: Mapping[str, datetime | None] = _NEVER
) -> list[Group]:
    """Return the groups of these messages, largest first; `since` is as in `groups`.

    The group of waiting events is the last.
    """
    found: dict[tuple[str | None, str, str | None], Group] = {}
    for parked in messages:
        key = cause(parked)
        if key not in found and len(found) >= GROUP_LIMIT:
            key = (OTHERS, OTHERS, None)
        type_, failure, frame = key
        if key not in found:
            found[key] = Group(
                service=parked.service,
                type=type_,
                failure=failure,
                frame=frame,
                since=since.get(key_of(*key)),
            )
        found[key].add(parked)
    return sorted(found.values(), key=lambda group: (group.is_waiting, -group.count))


def cause(parked: Parked) -> tuple[str | None, str, str | None]:
    """Return the type, the failure and the function by which a message is grouped."""
    # Events that wait have no individual cause, so they are one group.
    return None if parked.is_waiting else parked.type, parked.failure, parked.frame


def key_of(event_type: str | None, failure: str, frame: str | None) -> str:
    """Return the key of a cause."""
    return sha256(msgspec.json.encode([event_type, failure, frame])).hexdigest()[:_KEY_DIGITS]
