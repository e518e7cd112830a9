"""The preparation of a plan: the parking lot is read once, and the plan is filled in the meantime.

The plan is recorded first. If its process is killed, the plan fails, so an incomplete plan never
runs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from console.broker.other_readers import unread
from console.broker.parked_message import Parked
from console.broker.parking_lot import ParkingLot, parking_lot
from console.errors import ActionError, problem
from console.models import ItemRow, ItemState, PlanRow, PlanState
from console.parking.criteria import Criteria
from console.parking.effects import BATCH, Candidate, Effect, Effects, effects
from console.parking.redrive import plans
from console.parking.redrive.lease import lease
from console.parking.redrive.plans import Plan
from console.settings import ParkingSettings
from eventbus.database import db
from eventbus.database.db import Sessions
from eventbus.topology.service import Service

#: Messages with an effect are redriven first, because they show whether the cause is fixed.
_RANKS = (
    Effect.HANDLE,
    Effect.IN_SEQUENCE,
    Effect.DECIDED,
    Effect.HANDLED,
    Effect.TOO_OLD,
    Effect.INVALID,
)


def prepare(
    settings: ParkingSettings,
    service: Service,
    criteria: Criteria,
    *,
    created_by: str,
    recorded: Callable[[int], object] = lambda _plan_id: None,
    progress: Callable[[int, int], object] = lambda _examined, _depth: None,
) -> Plan:
    """Choose parked messages and return the plan, and leave all messages in place.

    `recorded` is called with the number of the plan before the parking lot is read, and `progress`
    after each `BATCH` messages with the number of messages that were read and the total. If an
    event has several messages, the oldest that can be redriven is planned. A message that waits is
    also planned if another message of its order is planned. Raises `ActionError` if another plan of
    the service is being prepared or run. Also raises `ActionError`, and stores it as the reason of
    the plan, if no message meets the criteria, if another reader holds messages, which the plan
    would not contain, or if the plan is aborted.
    """
    with lease(settings, service.name) as own:
        with db.transaction(own) as session:
            plans.forget(session)
            plans.fail_interrupted(session, service.name)
            plan_id = plans.insert(session, service, criteria, created_by)
        recorded(plan_id)
        try:
            with effects(settings, service) as expected, parking_lot(settings, service) as lot:
                filling = _Filling(own, plan_id, expected)
                for batch in _batches(_candidates(settings, service, lot, criteria)):
                    filling.add(batch, lot.depth)
                    progress(filling.examined, lot.depth)
                return filling.end(unread(settings, service, lot))
        except Exception as error:
            # If the database has failed, the reason is that the preparation was interrupted.
            with suppress(DBAPIError), db.transaction(own) as session:
                plans.fail(session, plan_id, problem(error))
            raise


class _Filling:
    """The storing of a plan's messages, in the order of the parking lot."""

    def __init__(self, own: Sessions, plan_id: int, expected: Effects) -> None:
        self._own, self._plan_id, self._expected = own, plan_id, expected
        #: Number of messages of the parking lot that were read.
        self.examined = 0

    def add(self, batch: Sequence[Candidate | None], depth: int) -> None:
        """Store the candidates among the next messages of a parking lot with `depth` messages."""
        rows = self._rows(batch)
        self.examined += len(batch)
        with db.transaction(self._own) as session:
            self._check(session)
            if rows:
                _store(session, rows)
            plan = update(PlanRow).where(PlanRow.id == self._plan_id)
            session.execute(plan.values(examined=self.examined, depth=depth))

    def end(self, others: str) -> Plan:
        """Allow the plan to run, and return it.

        Raises `ActionError` if it has no messages, or if `others`, the result of `unread`, is not
        empty.
        """
        if others:
            raise ActionError(f"no plan was made, because {others}: plan again")
        with db.transaction(self._own) as session:
            self._check(session)
            if not _choose_waiting(session, self._plan_id):
                service = self._expected.service.name
                raise ActionError(f"no parked message of {service} meets the criteria")
            plans.count(session, self._plan_id)
            plans.set_state(session, self._plan_id, PlanState.READY)
            return plans.find(session, self._plan_id)

    def _check(self, session: Session) -> None:
        if (state := plans.state_of(session, self._plan_id)) is not PlanState.INCOMPLETE:
            raise ActionError(f"plan {self._plan_id} is {state}")

    def _rows(self, batch: Sequence[Candidate | None]) -> list[dict[str, object]]:
        numbered = {
            number: candidate
            for number, candidate in enumerate(batch, start=self.examined + 1)
            if candidate
        }
        expected = self._expected.of(list(numbered.values())) if numbered else []
        return [
            {
                "plan_id": self._plan_id,
                "position": number,
                "event_id": candidate.parked.id,
                "digest": candidate.digest,
                "inbox_id": candidate.inbox_id,
                "type": candidate.parked.type,
                "order_id": candidate.parked.order_id,
                "effect": effect,
                "rank": _RANKS.index(effect),
                "state": _state(candidate, effect),
                "note": None if effect.is_redriven else effect,
            }
            for (number, candidate), effect in zip(numbered.items(), expected, strict=True)
            # A message that is not chosen is in the plan only to be redriven.
            if candidate.is_chosen or effect.is_redriven
        ]


def _candidates(
    settings: ParkingSettings, service: Service, lot: ParkingLot, criteria: Criteria
) -> Iterator[Candidate | None]:
    """Yield each message of a parking lot as a candidate, or None if it is not one."""
    for message in lot.scan():
        parked = Parked.of(service, message)
        is_chosen = criteria.matches(parked)
        if is_chosen or (parked.is_waiting and service.parks_in_sequence):
            yield Candidate.of(settings, parked, message, is_chosen=is_chosen)
        else:
            yield None


def _batches(candidates: Iterable[Candidate | None]) -> Iterator[list[Candidate | None]]:
    batch: list[Candidate | None] = []
    for candidate in candidates:
        batch.append(candidate)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _store(session: Session, rows: Iterable[dict[str, object]]) -> None:
    """Insert one message per event: the first that can be redriven, otherwise the first."""
    # One statement may change a row only once.
    by_event: dict[object, dict[str, object]] = {}
    for row in sorted(rows, key=lambda row: row["state"] != ItemState.PLANNED):
        by_event.setdefault(row["event_id"], row)
    statement = insert(ItemRow)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[ItemRow.plan_id, ItemRow.event_id],
        set_=dict(new.items()),
        where=(ItemRow.state != ItemState.PLANNED) & (new.state == ItemState.PLANNED),
    )
    session.execute(statement, list(by_event.values()))


def _state(candidate: Candidate, effect: Effect) -> ItemState:
    if not effect.is_redriven:
        return ItemState.SKIPPED
    return ItemState.PLANNED if candidate.is_chosen else ItemState.WAITING


def _choose_waiting(session: Session, plan_id: int) -> bool:
    """Plan the messages that wait if another message of their order is planned, and omit the rest.

    Return whether the plan has messages.
    """
    planned = select(ItemRow.order_id).where(
        ItemRow.plan_id == plan_id,
        ItemRow.state == ItemState.PLANNED,
        ItemRow.order_id.is_not(None),
    )
    is_waiting = (ItemRow.plan_id == plan_id) & (ItemRow.state == ItemState.WAITING)
    chosen = update(ItemRow).where(is_waiting, ItemRow.order_id.in_(planned))
    session.execute(chosen.values(state=ItemState.PLANNED))
    session.execute(delete(ItemRow).where(is_waiting))
    rows = select(ItemRow.position).where(ItemRow.plan_id == plan_id).limit(1)
    return session.scalar(rows) is not None
