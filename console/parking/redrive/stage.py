"""A stage of a run, which redrives a few messages and waits for their outcomes."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from amqp import Message

from console.broker.parked_message import Parked, digest, event_id
from console.broker.parking_lot import PLAN, ParkingLot, parking_lot
from console.models import ItemState
from console.parking.age_limit import is_too_old
from console.parking.effects import Effect, Effects
from console.parking.redrive.progress import Item, Progress
from console.settings import ParkingSettings
from eventbus.topology.service import Service

#: Seconds to wait for the outcomes of a stage. A worker that restarts, or pauses for a failover of
#: its database, continues within a minute or two.
OUTCOME_LIMIT = 300.0

#: Maximum seconds for which messages are searched for while another command reads the parking lot,
#: and seconds between two searches.
SEARCH_LIMIT, _SEARCH_PAUSE = 30.0, 1.0

#: Maximum number of characters of a stored reason of a failure.
REASON_LIMIT = 500

#: Seconds between two queries of the inbox, and before the parking lot is read for the first time.
_POLL, _FIRST_READING = 0.25, 0.5

#: The maximum share of the time for which the parking lot is read, because other readers cannot
#: read its messages at the same time. It is read at least every ten seconds or so.
_READING_SHARE, _LONGEST_PAUSE = 0.1, 10.0


@dataclass(kw_only=True)
class Outcome:
    """The numbers of a stage's messages by their state, and the first failure."""

    size: int
    counts: dict[ItemState, int] = field(default_factory=dict)
    #: Number of messages that the stage has put back into the queue.
    redriven: int = 0
    failure: str | None = None
    #: The events that were redriven, or may have been redriven, and have no outcome.
    unknown: list[str] = field(default_factory=list)
    #: The events that were not found: they are neither handled nor discarded, and are not parked
    #: unless another command holds them.
    missing: list[str] = field(default_factory=list)

    @property
    def failing(self) -> float:
        """The share of redriven messages with an outcome that failed again."""
        known = self.redriven - len(self.unknown)
        return self.counts.get(ItemState.PARKED, 0) / known if known > 0 else 0.0

    @property
    def has_released(self) -> bool:
        """Whether messages that waited behind messages of this stage may be redriven now."""
        return bool(self.counts.get(ItemState.HANDLED) or self.counts.get(ItemState.GONE))


class Stage:
    """The messages of one stage, from their redrive to their outcomes."""

    def __init__(
        self,
        settings: ParkingSettings,
        service: Service,
        progress: Progress,
        effects: Effects,
        is_interrupted: Callable[[], bool],
    ) -> None:
        """`is_interrupted` returns whether the run must end; it is called often."""
        self._settings = settings
        self._service = service
        self._progress = progress
        self._effects = effects
        self._is_interrupted = is_interrupted
        #: The mark that distinguishes the messages of this stage from copies that a killed run has
        #: left.
        self._mark = f"{progress.plan_id}/{uuid4().hex[:12]}"

    def run(self, items: Sequence[Item], wait: Callable[[], object]) -> Outcome:
        """Redrive messages, calling `wait` before each, and return their outcomes.

        Messages without an outcome remain recorded as being redriven: the run was interrupted, or
        `OUTCOME_LIMIT` has passed. Messages that were not found are planned again, after all other
        messages. Messages that would wait behind a parked message are not redriven.
        """
        outcome = Outcome(size=len(items))
        due = self._hold_back(items, outcome)
        sent = self._send(due, outcome, wait) if due else []
        outcome.redriven = len(sent)
        self._await(_by_position(sent), outcome, ItemState.PARKED)
        return outcome

    def settle_absent(self, items: Sequence[Item]) -> None:
        """Record the messages that are no longer parked because they were handled or changed.

        One reading of the parking lot settles all of them; otherwise each takes a stage. While
        another command holds messages, no message is known to be absent, and nothing is recorded.
        """
        if not items:
            return
        waiting = _by_position(items)
        by_name = {item.event_id: item for item in items}
        with parking_lot(self._settings, self._service) as lot:
            for message in lot.scan():
                item = by_name.get(event_id(message))
                if item and digest(message) == item.digest:
                    waiting.pop(item.position, None)
            if lot.is_shared:
                return
        self._read_inbox(waiting, Outcome(size=0))
        self._read_removed(waiting, Outcome(size=0))

    def recover(self, items: Sequence[Item]) -> Outcome:
        """Return the outcomes of messages whose redrive a killed or interrupted run has begun.

        A message that is in the parking lot is planned again, whether it has not been published yet
        or has failed again. A message that an operator has since discarded or edited is gone.
        """
        outcome, waiting = Outcome(size=len(items)), _by_position(items)
        # The parking lot is examined before the inbox, because a message that a killed run did not
        # remove is in both.
        self._read_parked(waiting, outcome, ItemState.PLANNED)
        self._await(waiting, outcome, ItemState.PLANNED)
        return outcome

    def _hold_back(self, items: Sequence[Item], outcome: Outcome) -> list[Item]:
        """Record the messages that would be parked again to wait, and return the rest."""
        ahead = self._effects.waiting([item.inbox_id for item in items if item.inbox_id])
        notes = {
            item.position: f"waits behind event {ahead[item.inbox_id]}"
            for item in items
            if item.inbox_id in ahead
        }
        self._record(
            [item for item in items if item.position in notes], ItemState.WAITING, outcome, notes
        )
        return [item for item in items if item.position not in notes]

    def _send(
        self, items: Sequence[Item], outcome: Outcome, wait: Callable[[], object]
    ) -> list[Item]:
        """Redrive the messages, record the messages that stay parked, and return the rest."""
        left = {item.event_id: item for item in items}
        sent = list[Item]()
        deadline = time.monotonic() + SEARCH_LIMIT
        while self._search(left, sent, outcome, wait):
            if time.monotonic() > deadline or self._is_interrupted():
                break
            time.sleep(_SEARCH_PAUSE)
        self._leave(list(left.values()), outcome)
        return sent

    def _search(
        self,
        left: dict[str, Item],
        sent: list[Item],
        outcome: Outcome,
        wait: Callable[[], object],
    ) -> bool:
        """Redrive messages and move them from `left` to `sent`; return whether more may be found.

        Another reader returns the messages that it holds.
        """
        with parking_lot(self._settings, self._service) as lot:
            for message in lot.messages():
                item = left.get(event_id(message))
                if item is None or digest(message) != item.digest:
                    continue
                wait()
                if self._is_interrupted():
                    return False
                del left[item.event_id]
                if problem := self._put_back(lot, message):
                    self._record([item], ItemState.SKIPPED, outcome, {item.position: problem})
                else:
                    sent.append(item)
                if not left:
                    return False
            return lot.is_shared

    def _leave(self, items: Sequence[Item], outcome: Outcome) -> None:
        """Record messages that were not redriven."""
        if not items:
            return
        if self._is_interrupted():
            self._record(items, ItemState.PLANNED, outcome)
            return
        waiting = _by_position(items)
        self._read_inbox(waiting, outcome)
        self._read_removed(waiting, outcome)
        self._progress.defer(list(waiting))
        outcome.missing = [item.event_id for item in waiting.values()]

    def _put_back(self, lot: ParkingLot, message: Message) -> str | None:
        """Redrive a message; return why it stays parked, or None."""
        # The plan may be weeks old.
        if is_too_old(message, self._settings):
            return Effect.TOO_OLD
        # All attempts except the last are counted, so a failure parks the message immediately,
        # rather than after all retry tiers, and the outcome is known within seconds.
        attempts = len(self._settings.retry_tiers)
        if lot.put_back(message, retries=attempts, mark=self._mark):
            return None
        return "has properties that cannot be copied"

    def _await(self, waiting: dict[int, Item], outcome: Outcome, if_parked: ItemState) -> None:
        deadline = time.monotonic() + OUTCOME_LIMIT
        next_reading = time.monotonic() + _FIRST_READING
        while True:
            self._read_inbox(waiting, outcome)
            now = time.monotonic()
            if not waiting or now > deadline or self._is_interrupted():
                outcome.unknown = [item.event_id for item in waiting.values()]
                return
            if now >= next_reading:
                self._read_parked(waiting, outcome, if_parked)
                if if_parked is ItemState.PLANNED:
                    self._read_removed(waiting, outcome)
                cost = time.monotonic() - now
                next_reading = now + cost + min(cost / _READING_SHARE, _LONGEST_PAUSE)
            time.sleep(_POLL)

    def _read_inbox(self, waiting: dict[int, Item], outcome: Outcome) -> None:
        """Record the messages whose events are handled."""
        handled = self._effects.handled([i.inbox_id for i in waiting.values() if i.inbox_id])
        items = [item for item in waiting.values() if item.inbox_id in handled]
        for item in items:
            del waiting[item.position]
        self._record(items, ItemState.HANDLED, outcome)

    def _read_removed(self, waiting: dict[int, Item], outcome: Outcome) -> None:
        """Record the messages that were discarded or edited since the plan was made."""
        removed = self._progress.removed(list(waiting))
        for change in sorted(set(removed.values())):
            items = [waiting.pop(position) for position, each in removed.items() if each is change]
            notes = dict.fromkeys((item.position for item in items), str(change))
            self._record(items, ItemState.GONE, outcome, notes)

    def _read_parked(self, waiting: dict[int, Item], outcome: Outcome, state: ItemState) -> None:
        """Record the messages that are in the parking lot."""
        by_name = {item.event_id: item for item in waiting.values()}
        notes: defaultdict[ItemState, dict[int, str]] = defaultdict(dict)
        with parking_lot(self._settings, self._service) as lot:
            for message in lot.scan():
                item = by_name.get(event_id(message))
                if item is None or digest(message) != item.digest:
                    continue
                if state is ItemState.PARKED and (message.headers or {}).get(PLAN) != self._mark:
                    # This is another message of the same event, which was parked before.
                    continue
                del by_name[item.event_id]
                parked = Parked.of(self._service, message)
                reason = " ".join(f"{parked.failure}: {parked.text}".split())
                is_waiting = state is ItemState.PARKED and parked.is_waiting
                found = ItemState.WAITING if is_waiting else state
                notes[found][item.position] = reason[:REASON_LIMIT]
                if not by_name:
                    break
        for found, reasons in notes.items():
            items = [waiting.pop(position) for position in reasons]
            self._record(items, found, outcome, reasons)

    def _record(
        self,
        items: Sequence[Item],
        state: ItemState,
        outcome: Outcome,
        notes: Mapping[int, str] | None = None,
    ) -> None:
        """Record messages of one state, with the reason of each by its position."""
        if not items:
            return
        self._progress.record([item.position for item in items], state, notes)
        outcome.counts[state] = outcome.counts.get(state, 0) + len(items)
        if state is ItemState.PARKED and notes:
            outcome.failure = outcome.failure or next(iter(notes.values()))


def _by_position(items: Sequence[Item]) -> dict[int, Item]:
    return {item.position: item for item in items}
