"""The search for open events in the queues of their services.

An event that was sent before the search began, and that the search does not find, is missing. It is
proven to be missing by the following steps, which show that it cannot be in any place through which
messages move:

- The retry tiers are held first. From then on messages do not leave a tier, and each message that
  enters a tier is found.
- The service's queue is then empty, including the messages that its workers hold. A message leaves
  a queue only after its effect is committed, or after its copy is in a tier or in the parking lot.
- The queue is then empty a second time. A message that the broker itself was moving from a tier, or
  to the parking lot, at the first time has arrived since then.
- The parking lot is read next. Only an operator's command removes a message from it.
- The inbox is read last.

The broker's counts are up to five seconds old, so a count is used only if it was requested `FRESH`
seconds after the state that it must confirm. Times are compared only within this process, by its
monotonic clock.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from amqp import Channel, Message
from amqp.exceptions import AccessRefused

from console.broker import state
from console.broker.connection import connected
from console.broker.management import Management
from console.broker.parked_message import Parked, event_id
from console.broker.parking_lot import parking_lot
from console.broker.settled_counts import ready
from console.broker.state import Object, figure
from console.ledger.account import Account
from console.ledger.held_tiers import HeldTiers
from console.settings import BrokerAdminSettings
from eventbus.messaging.amqps import Connection
from eventbus.topology.service import Service

#: Seconds after a change of state until the broker's counts certainly include the change.
FRESH = 7.0

#: Seconds between two requests for the counts.
POLL = 1.0

#: Maximum number of messages read from a parking lot; one at a time is in memory.
PARKED_LIMIT = 100_000

#: Maximum number of messages of open events that a search of one service returns. Each has a reason
#: of a few lines.
MESSAGE_LIMIT = 1_000


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search, with ids as the messages contain them.

    `unproven` is the reason why events that were not found may still be in a queue, or empty if
    they cannot be.
    """

    retrying: frozenset[str]
    parked: frozenset[str]
    unproven: str
    #: The messages of open events that were found, each with its last failure; at most
    #: `MESSAGE_LIMIT`.
    messages: Mapping[str, Parked]


def search(
    settings: BrokerAdminSettings,
    accounts: Sequence[Account],
    *,
    seconds: float,
    whole: bool = True,
    indexed: Collection[str] = (),
) -> Mapping[str, Found]:
    """Search the queues of these services, for at most `seconds`; return the result by service.

    Each parking lot is read afterwards, except those of the services in `indexed`. Unless `whole`,
    reading ends at the last open event, and the result does not include further messages, which
    may be duplicates.

    Raises `ActionError` if the broker cannot be reached.
    """
    if not accounts:
        return {}
    with connected(settings) as connection, Management(settings) as broker:
        totals = state.totals(broker)
        searches = [_Search(connection, account, totals) for account in accounts]
        _run(connection, searches, lambda: state.totals(broker), time.monotonic() + seconds)
    return {
        each.service.name: each.conclude(
            settings, whole=whole, is_indexed=each.service.name in indexed
        )
        for each in searches
    }


def _run(
    connection: Connection,
    searches: Sequence["_Search"],
    counted: Callable[[], Mapping[str, Object]],
    until: float,
) -> None:
    while (active := [each for each in searches if not each.is_over]) and time.monotonic() < until:
        _receive(connection, POLL)
        requested_at = time.monotonic()
        totals = counted()
        for each in active:
            each.observe(totals, requested_at)
            if each.is_over:
                each.release()
    for each in searches:
        each.release()


def _receive(connection: Connection, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with suppress(TimeoutError):
        while (left := deadline - time.monotonic()) > 0:
            connection.drain_events(timeout=left)


class _Search:
    """The search in the queues of one service."""

    def __init__(
        self, connection: Connection, account: Account, totals: Mapping[str, Object]
    ) -> None:
        self.service = account.service
        self._open = {str(event_id) for event_id in account.open}
        self._channel: Channel = connection.channel()
        self._messages: dict[str, Parked] = {}
        self._tiers = HeldTiers(connection, list(_tiers(self.service, totals)), self._record)
        #: The time since which the tiers have been held, and the time at which the queue was first
        #: found empty.
        self._held_at = time.monotonic()
        self._empty_at: float | None = None
        self._problem = f"{self.service.queue} was not empty at any moment of the search"
        #: Number of messages in the parking lot at the time of the proof; None if the broker does
        #: not report it.
        self._parked_total: int | None = None
        self._is_proven = False

    @property
    def is_over(self) -> bool:
        """Whether each open event was found, or proven to be in none of the queues."""
        return self._is_proven or self._open <= self._tiers.ids

    def observe(self, totals: Mapping[str, Object], requested_at: float) -> None:
        """Record the broker's counts, which were requested at a (monotonic) time."""
        since = self._held_at if self._empty_at is None else self._empty_at
        if requested_at - since < FRESH:
            return
        if self.service.spare_queue in totals:
            self._problem = f"{self.service.queue} is being replaced"
        elif self.service.queue not in totals:
            self._problem = f"{self.service.queue} does not exist; see orderctl topology plan"
        elif self._is_empty(totals):
            if self._empty_at is not None:
                self._conclude(totals)
            self._empty_at = time.monotonic()

    def release(self) -> None:
        """Return the messages to the tiers."""
        self._tiers.release()

    def conclude(self, settings: BrokerAdminSettings, *, whole: bool, is_indexed: bool) -> Found:
        """Read the parking lot unless it is indexed, and return the result."""
        ids, read = frozenset[str](), 0
        if not is_indexed:
            ids, read = self._read_parking_lot(settings, whole=whole)
        problem = "" if self._is_proven else self._problem
        total = self._parked_total
        is_complete = total is not None and read >= min(total, PARKED_LIMIT + 1)
        if not (problem or is_complete or self._open <= ids | self._tiers.ids):
            problem = f"{self.service.parking_lot} could not be read completely"
        return Found(
            retrying=frozenset(self._tiers.ids),
            parked=ids,
            unproven=problem,
            messages=self._messages,
        )

    def _read_parking_lot(
        self, settings: BrokerAdminSettings, *, whole: bool
    ) -> tuple[frozenset[str], int]:
        """Return the ids of the events in the parking lot, and the number of messages read.

        Unless `whole`, reading ends when every open event has been found.
        """
        ids, missing = [], self._open - self._tiers.ids
        with parking_lot(settings, self.service) as lot:
            for message in lot.scan(PARKED_LIMIT):
                ids.append(event_id(message))
                self._record(message)
                missing.discard(event_id(message))
                if not (whole or missing):
                    break
        return frozenset(ids), len(ids)

    def _record(self, message: Message) -> None:
        if (name := event_id(message)) in self._open and len(self._messages) < MESSAGE_LIMIT:
            self._messages[name] = Parked.of(self.service, message)

    def _is_empty(self, totals: Mapping[str, Object]) -> bool:
        # All existing parts are included, because `PARTS` may have changed.
        parts = [name for name in totals if self.service.is_part_queue(name)]
        queues = [*parts, *[self.service.overflow] * self.service.can_overflow]
        if any(figure(totals.get(queue), "messages") != 0 for queue in queues):
            return False
        return all(self._is_part_empty(part) for part in parts)

    def _is_part_empty(self, queue: str) -> bool:
        declared = self._channel.queue_declare(queue, passive=True)
        if declared.message_count or declared.consumer_count:
            return not declared.message_count
        # A queue whose leader does not respond is reported in the same way, while a get waits for
        # the leader. Only an operator may use a get: the console's user must not read events.
        try:
            return ready(self._channel, queue) == 0
        except AccessRefused:
            self._problem = f"{queue} has no consumer"
            return False

    def _conclude(self, totals: Mapping[str, Object]) -> None:
        self._parked_total = figure(totals.get(self.service.parking_lot), "messages")
        if self._tiers.covers(totals):
            self._is_proven = True
        else:
            self._problem = f"the retry tiers of {self.service.name} could not be read completely"


def _tiers(service: Service, totals: Mapping[str, Object]) -> Iterator[str]:
    # All existing tiers are included, because `RETRY_TIERS` may have changed.
    prefix = f"{service.retry_exchange}."
    yield from (name for name in totals if name.startswith(prefix))
