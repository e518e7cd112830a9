"""Failure groups that are remembered after the last of their messages has left the parking lot.

Groups are stored when they are listed: a message contains the times and the release of its failure,
and stays parked until an operator acts. Those of a large parking lot are stored with its index.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Select, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.errors import ActionError, problem
from console.models import FailureGroupRow
from console.parking.groups import OTHERS, RELEASE_LIMIT, Group, groups
from console.parking.index import rows
from console.settings import DiscardSettings
from eventbus.topology.service import Service

#: Minimum time from the last failure of a group to the failure with which it returns. Retries take
#: twelve minutes, and a redrive that fails again is not a return.
RETURN_AFTER = timedelta(minutes=15)

#: Maximum number of groups of one service that are remembered. Groups with a note or an owner come
#: first, then the newest groups. An unknown publisher may invent any number of types.
REMEMBERED = 1_000

#: Maximum number of groups without parked messages that are listed for each service, from the
#: newest.
EARLIER_LISTED = 50

_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A remembered failure group, with the times of failures.

    `count` is the approximate number of failures that were seen: if two failures occur in the same
    millisecond, one may be missing.
    """

    service: str
    key: str
    type: str | None
    failure: str
    frame: str | None
    count: int
    first_seen: datetime | None
    last_seen: datetime | None
    releases: tuple[str, ...]
    returned_at: datetime | None
    previous_seen: datetime | None
    previous_release: str | None
    owner: str | None
    note: str | None
    noted_by: str | None
    noted_at: datetime | None
    muted_until: datetime | None
    muted_by: str | None
    is_muted: bool

    @classmethod
    def of(cls, row: FailureGroupRow, now: datetime) -> "Memory":
        """Return a row as of `now`."""
        columns = {
            name: getattr(row, name) for name in cls.__dataclass_fields__ if name in _COLUMNS
        }
        is_muted = row.muted_until is not None and row.muted_until > now
        return cls(**columns | {"releases": tuple(row.releases)}, is_muted=is_muted)

    @property
    def story(self) -> str | None:
        """The return of the group in words, or None if it has not returned."""
        if self.returned_at is None or self.previous_seen is None:
            return None
        text = f"returned after {_span(self.returned_at - self.previous_seen)}"
        release = self.previous_release
        return f"{text}; last seen in release {release}" if release else text


@dataclass(frozen=True, kw_only=True)
class Known:
    """A group of parked messages, and its memory, which is None if it is not remembered."""

    group: Group
    memory: Memory | None = None

    @property
    def is_muted(self) -> bool:
        """Whether an operator has muted the group."""
        return self.memory is not None and self.memory.is_muted


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The groups of a service, muted groups last; `problem` states why they are not remembered.

    `unread` is the result of `other_readers`. `as_of` is the time of the index, or None if the
    parking lot was read.
    """

    service: Service
    groups: tuple[Known, ...]
    earlier: tuple[Memory, ...] = ()
    problem: str = ""
    unread: str = ""
    as_of: datetime | None = None

    @property
    def messages(self) -> int:
        """The number of the messages."""
        return sum(known.group.count for known in self.groups)


def listed(settings: DiscardSettings, service: Service) -> Listing:
    """Return the groups of a service's parked messages, and remember them; the messages stay.

    If the console's database is unavailable, they are returned without their memory.
    """
    try:
        with transaction(settings, CONSOLE) as session:
            since = last_seen(session, service)
    except (ActionError, DBAPIError) as error:
        read = groups(settings, service)
        known = tuple(Known(group=group) for group in read.groups)
        return Listing(service=service, groups=known, problem=problem(error), unread=read.unread)
    read = groups(settings, service, since)
    with transaction(settings, CONSOLE) as session:
        memories = remember(session, service, read.groups)
        earlier = _earlier(session, service, memories)
    return Listing(
        service=service,
        groups=_known(read.groups, memories),
        earlier=earlier,
        unread=read.unread,
    )


def indexed(settings: DiscardSettings, service: Service) -> Listing:
    """Return the same from the index, if the parking lot is indexed and the index is available."""
    with suppress(DBAPIError), transaction(settings, CONSOLE) as session:
        if lot := rows.lot(session, service.name):
            found = msgspec.convert(lot.groups, list[Group])
            now = _now(session)
            remembered = _rows(service, [group.key for group in found])
            memories = {row.key: Memory.of(row, now) for row in session.scalars(remembered)}
            return Listing(
                service=service,
                groups=_known(found, memories),
                earlier=_earlier(session, service, memories),
                unread=lot.unread,
                as_of=lot.read_at,
            )
    return listed(settings, service)


def remember(session: Session, service: Service, found: Sequence[Group]) -> dict[str, Memory]:
    """Store groups of parked messages, and return their memories by key.

    A failure is counted once, even if two commands list the groups at the same time.
    """
    seen = {group.key: group for group in found if group.type != OTHERS}
    now = _now(session)
    known = _locked(session, service, seen)
    for key, row in known.items():
        _see(row, seen[key], now)
    new = [_row(seen[key], now) for key in sorted(seen.keys() - known.keys())]
    if new:
        session.execute(insert(FailureGroupRow).on_conflict_do_nothing(), new)
        _forget(session, service)
        known = _locked(session, service, seen)
    return {key: Memory.of(row, now) for key, row in known.items()}


def last_seen(session: Session, service: Service) -> Mapping[str, datetime | None]:
    """Return the time of the last failure of each group that was counted, by key."""
    columns = select(FailureGroupRow.key, FailureGroupRow.last_seen)
    found = session.execute(columns.where(FailureGroupRow.service == service.name))
    return {row.key: row.last_seen for row in found}


def _known(found: Iterable[Group], memories: Mapping[str, Memory]) -> tuple[Known, ...]:
    known = (Known(group=group, memory=memories.get(group.key)) for group in found)
    return tuple(sorted(known, key=lambda each: each.is_muted))


def _rows(service: Service, keys: Iterable[str]) -> Select[FailureGroupRow]:
    return select(FailureGroupRow).where(
        FailureGroupRow.service == service.name, FailureGroupRow.key.in_(list(keys))
    )


def _locked(session: Session, service: Service, keys: Iterable[str]) -> dict[str, FailureGroupRow]:
    # Rows are locked in a fixed order, because another command may list the same groups.
    locked = _rows(service, keys).order_by(FailureGroupRow.key).with_for_update()
    return {row.key: row for row in session.scalars(locked)}


def _see(row: FailureGroupRow, group: Group, now: datetime) -> None:
    """Add the failures of a group that have occurred since the row was read."""
    first, last = _past(group.first_seen, now), _past(group.last_seen, now)
    # Another command may have counted them in the meantime.
    if last is None or row.last_seen != group.since:
        return
    # All earlier messages of the group are gone, and its failures started again later.
    if row.last_seen and first and first - row.last_seen >= RETURN_AFTER:
        row.returned_at, row.previous_seen = first, row.last_seen
        row.previous_release = row.releases[-1] if row.releases else None
    row.count += group.new
    row.first_seen = min(filter(None, (row.first_seen, first)), default=None)
    row.last_seen = max(filter(None, (row.last_seen, last)))
    earlier = [release for release in row.releases if release not in group.releases]
    row.releases = (earlier + group.releases)[-RELEASE_LIMIT:]


def _row(group: Group, now: datetime) -> dict[str, object]:
    return {
        "service": group.service,
        "key": group.key,
        "type": group.type,
        "failure": group.failure,
        "frame": group.frame,
        "count": group.count,
        "first_seen": _past(group.first_seen, now),
        "last_seen": _past(group.last_seen, now),
        "releases": group.releases,
    }


def _past(moment: datetime | None, now: datetime) -> datetime | None:
    # A publisher may have set a time in the future, after which later failures would not count as
    # new.
    return min(moment, now) if moment else None


def _forget(session: Session, service: Service) -> None:
    columns = tuple_(FailureGroupRow.service, FailureGroupRow.key)
    is_plain = FailureGroupRow.note.is_(None) & FailureGroupRow.owner.is_(None)
    beyond = (
        select(FailureGroupRow.service, FailureGroupRow.key)
        .where(FailureGroupRow.service == service.name)
        .order_by(is_plain, FailureGroupRow.last_seen.desc().nulls_last())
        .offset(REMEMBERED)
        .with_for_update(skip_locked=True)
    )
    session.execute(delete(FailureGroupRow).where(columns.in_(beyond)))


def _earlier(session: Session, service: Service, present: Iterable[str]) -> tuple[Memory, ...]:
    others = select(FailureGroupRow).where(
        FailureGroupRow.service == service.name, FailureGroupRow.key.not_in(list(present))
    )
    others = others.order_by(FailureGroupRow.last_seen.desc().nulls_last()).limit(EARLIER_LISTED)
    now = _now(session)
    return tuple(Memory.of(row, now) for row in session.scalars(others))


def _now(session: Session) -> datetime:
    return session.scalars(select(func.now())).one()


def _span(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    size, name = next(
        ((size, name) for size, name in ((_DAY, "day"), (_HOUR, "hour")) if seconds >= size),
        (_MINUTE, "minute"),
    )
    count = int(seconds // size)
    return f"{count} {name}{'s' * (count != 1)}"


_COLUMNS = frozenset(column.name for column in FailureGroupRow.__table__.columns)
