"""The progress of a plan: the states of its messages, which survive the process that runs it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    Text,
    any_,
    column,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from console.models import ItemRow, ItemState, JournalRow, PlanRow, PlanState
from console.parking.journal import Change
from console.parking.redrive import plans
from eventbus.database.db import Sessions, transaction

#: The rank of messages that a run has not found, which are redriven last.
_NOT_FOUND = 100

#: The kinds of changes after which a message is no longer in the parking lot, or no longer has the
#: planned body.
_REMOVING = {Change.DISCARDED, Change.EDITED}


@dataclass(frozen=True, kw_only=True)
class Item:
    """A message of a plan: its place, its event's name and dedup key, and the hash of its body."""

    position: int
    event_id: str
    digest: str
    inbox_id: UUID | None


@dataclass(frozen=True)
class Progress:
    """The stored states of one plan."""

    plan_id: int
    _sessions: Sessions
    #: The operator who runs the plan.
    run_by: str

    def begin(self, count: int) -> list[Item]:
        """Return the next planned messages, at most `count`, recorded as being redriven.

        They are recorded before the first of them is published, so after a crash only these
        messages must be searched for.
        """
        with transaction(self._sessions) as session:
            planned = self._items(ItemState.PLANNED).limit(count)
            items = [_item(row) for row in session.scalars(planned)]
        positions = [item.position for item in items]
        self.record(positions, ItemState.SENT, redriven_at=func.now(), redriven_by=self.run_by)
        return items

    def planned(self) -> list[Item]:
        """Return all planned messages."""
        return self._all(ItemState.PLANNED)

    def unfinished(self) -> list[Item]:
        """Return the messages whose redrive has begun and whose outcome is not known."""
        return self._all(ItemState.SENT)

    def record(
        self,
        positions: Collection[int],
        state: ItemState,
        notes: Mapping[int, str] | None = None,
        **columns: Any,
    ) -> None:
        """Store the state of these messages, the reason for it, and values of other columns."""
        if not positions:
            return
        with transaction(self._sessions) as session:
            self._move(session, _at(positions), state, note=None, updated_at=func.now(), **columns)
            if notes:
                _note(session, self.plan_id, notes)

    def defer(self, positions: Collection[int]) -> None:
        """Plan these messages again, to be redriven after all other messages."""
        if not positions:
            return
        with transaction(self._sessions) as session:
            values = {"rank": _NOT_FOUND, "updated_at": func.now()}
            self._move(session, _at(positions), ItemState.PLANNED, **values)

    def removed(self, positions: Collection[int]) -> dict[int, Change]:
        """Return which of these messages were discarded or edited since the plan was made."""
        if not positions:
            return {}
        changes = (
            select(ItemRow.position, JournalRow.change)
            .ext(distinct_on(ItemRow.position))
            .join(PlanRow, PlanRow.id == ItemRow.plan_id)
            .join(
                JournalRow,
                (JournalRow.service == PlanRow.service)
                & (JournalRow.event_id == ItemRow.event_id)
                & (JournalRow.details["before"].astext == ItemRow.digest)
                & (JournalRow.recorded_at > PlanRow.created_at),
            )
            .where(ItemRow.plan_id == self.plan_id, _at(positions))
            # Only the newest change counts: a discarded message may have been restored.
            .order_by(ItemRow.position, JournalRow.id.desc())
        )
        with transaction(self._sessions) as session:
            newest = session.execute(changes).all()
        return {position: Change(change) for position, change in newest if change in _REMOVING}

    def retry_failed(self) -> None:
        """Plan failed, waiting and discarded messages again, ahead of all other messages."""
        self._plan_again(ItemState.PARKED, ItemState.WAITING, ItemState.GONE)

    def retry_waiting(self) -> None:
        """Plan the messages again that waited behind other messages."""
        self._plan_again(ItemState.WAITING)

    def waiting(self) -> list[Item]:
        """Return the messages that waited behind other messages."""
        return self._all(ItemState.WAITING)

    def open(self) -> PlanState:
        """Return the state of the plan at the start of a run, after counting its messages."""
        with transaction(self._sessions) as session:
            plan = plans.find(session, self.plan_id)
            plans.fail_interrupted(session, plan.service)
            plans.count(session, self.plan_id)
            return plans.state_of(session, self.plan_id)

    def state(self) -> PlanState:
        """Return the state of the plan, which another process may have changed."""
        with transaction(self._sessions) as session:
            return plans.state_of(session, self.plan_id)

    def end(self, state: PlanState, reason: str | None = None) -> None:
        """Store the state of the plan, unless an operator has changed it in the meantime."""
        with transaction(self._sessions) as session:
            if plans.state_of(session, self.plan_id) is PlanState.READY:
                plans.set_state(session, self.plan_id, state, reason)

    def _plan_again(self, *states: ItemState) -> None:
        with transaction(self._sessions) as session:
            self._move(session, ItemRow.state.in_(states), ItemState.PLANNED, note=None)

    def _move(
        self, session: Session, chosen: ColumnElement[bool], state: ItemState, **values: Any
    ) -> None:
        """Change the state of messages, and the numbers of the plan."""
        rows = (ItemRow.plan_id == self.plan_id) & chosen
        before = select(ItemRow.state, func.count()).where(rows).group_by(ItemRow.state)
        numbers = dict(session.execute(before).all())
        session.execute(update(ItemRow).where(rows).values(state=state, **values))
        plans.move(session, self.plan_id, numbers, state)

    def _all(self, state: ItemState) -> list[Item]:
        with transaction(self._sessions) as session:
            return [_item(row) for row in session.scalars(self._items(state))]

    def _items(self, state: ItemState) -> Select[ItemRow]:
        rows = select(ItemRow).where(ItemRow.plan_id == self.plan_id, ItemRow.state == state)
        return rows.order_by(ItemRow.rank, ItemRow.position)


def _note(session: Session, plan_id: int, notes: Mapping[int, str]) -> None:
    """Store the reason for the state of each of these messages, in one statement."""
    columns = column("position", Integer), column("note", Text)
    values = literal(list(notes), ARRAY(Integer)), literal(list(notes.values()), ARRAY(Text))
    given = func.unnest(*values).table_valued(*columns).render_derived()
    rows = update(ItemRow).where(ItemRow.plan_id == plan_id, ItemRow.position == given.c.position)
    # The session does not contain the rows, so it needs no synchronization.
    session.execute(
        rows.values(note=given.c.note), execution_options={"synchronize_session": False}
    )


def _at(positions: Collection[int]) -> ColumnElement[bool]:
    # The values are one parameter, regardless of the size of the stage, because the number of
    # parameters may be limited.
    return ItemRow.position == any_(literal(list(positions), ARRAY(Integer)))


def _item(row: ItemRow) -> Item:
    return Item(
        position=row.position, event_id=row.event_id, digest=row.digest, inbox_id=row.inbox_id
    )
