"""Redrive plans: parked messages, selected once, and the expected effect of each redrive."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from common.kombu_topology import CONSOLE
from console.broker.other_readers import unread
from console.broker.parked_message import Parked
from console.broker.parking_lot import ParkingLot, parking_lot
from console.databases.service_database import transaction
from console.errors import ActionError
from console.models import ItemRow, ItemState, PlanRow, PlanState
from console.parking.criteria import Criteria
from console.parking.effects import BATCH, Candidate, Effect, Effects, effects
from console.parking.lease import lease
from console.settings import DatabaseServer, ParkingSettings
from eventbus.database import db
from eventbus.topology.service import Service

#: Age at which a plan is deleted when another plan is created. By then, its messages may be too
#: old.
KEPT = timedelta(days=90)

#: Maximum number of plans that are deleted in one transaction, with all their messages.
_DELETED_TOGETHER = 10

#: Plans that are listed, the newest ones.
LISTED = 50

#: Messages with an effect are redriven first, because they show whether the cause is fixed.
_RANKS = (
    Effect.HANDLE,
    Effect.IN_SEQUENCE,
    Effect.DECIDED,
    Effect.HANDLED,
    Effect.TOO_OLD,
    Effect.INVALID,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan with the numbers of its messages, by state and by expected effect."""

    id: int
    service: str
    state: PlanState
    reason: str | None
    created_by: str
    created_at: datetime
    states: dict[str, int] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)


def create(
    settings: ParkingSettings, service: Service, criteria: Criteria, *, created_by: str
) -> Plan:
    """Choose parked messages and return the plan; all stay in place.

    The whole parking lot is read, with at most `BATCH` messages in memory. Of several messages of
    one event, the oldest that can be redriven is planned. Messages that wait behind others are also
    planned if another message of their order is. Raises `ActionError` if no message meets the
    criteria, if another plan of the service is being made or run, or if another reader holds
    messages, which the plan would not contain.
    """
    with (
        lease(settings, service.name) as own,
        effects(settings, service) as expected,
        parking_lot(settings, service) as lot,
    ):
        with db.transaction(own) as session:
            _forget(session)
            plan_id = _insert(session, service, criteria, created_by)
        position = 0
        for batch in _batches(_candidates(settings, service, lot, criteria)):
            if rows := _rows(plan_id, position, batch, expected):
                with db.transaction(own) as session:
                    _store(session, rows)
            position += len(batch)
        others = unread(settings, service, lot)
        with db.transaction(own) as session:
            if _choose_waiting(session, plan_id) and not others:
                set_state(session, plan_id, PlanState.READY)
                return find(session, plan_id)
            session.execute(delete(PlanRow).where(PlanRow.id == plan_id))
    if others:
        raise ActionError(f"no plan was made, because {others}: plan again")
    raise ActionError(f"no parked message of {service.name} meets the criteria")


def show(settings: DatabaseServer, plan_id: int) -> Plan:
    """Return a plan. Raises `ActionError` if it does not exist."""
    with transaction(settings, CONSOLE) as session:
        return find(session, plan_id)


def newest(settings: DatabaseServer) -> list[Plan]:
    """Return the newest plans, at most `LISTED`, the newest first."""
    with transaction(settings, CONSOLE) as session:
        rows = select(PlanRow).order_by(PlanRow.id.desc()).limit(LISTED)
        return _counted(session, session.scalars(rows).all())


def items(settings: DatabaseServer, plan_id: int, *, limit: int | None = None) -> list[ItemRow]:
    """Return the messages of a plan in the order of their redrive, at most `limit`."""
    with transaction(settings, CONSOLE) as session:
        find(session, plan_id)
        rows = select(ItemRow).where(ItemRow.plan_id == plan_id)
        rows = rows.order_by(ItemRow.rank, ItemRow.position).limit(limit)
        return list(session.scalars(rows))


def find(session: Session, plan_id: int) -> Plan:
    """Return a plan. Raises `ActionError` if it does not exist."""
    row = session.get(PlanRow, plan_id)
    if row is None:
        raise ActionError(f"plan {plan_id} does not exist; see: orderctl parked plans")
    (plan,) = _counted(session, [row])
    return plan


def state_of(session: Session, plan_id: int) -> PlanState:
    """Return the state of an existing plan, locked until the end of the transaction."""
    row = select(PlanRow.state).where(PlanRow.id == plan_id).with_for_update()
    return PlanState(session.scalars(row).one())


def set_state(session: Session, plan_id: int, state: PlanState, reason: str | None = None) -> None:
    """Change the state of a plan, with the reason why its run ended early."""
    row = update(PlanRow).where(PlanRow.id == plan_id)
    session.execute(row.values(state=state, reason=reason, updated_at=func.now()))


def pause(settings: DatabaseServer, plan_id: int) -> Plan:
    """Make the run of a plan end after the current message. Raises `ActionError`."""
    return _change(settings, plan_id, (PlanState.READY,), PlanState.PAUSED)


def resume(settings: DatabaseServer, plan_id: int) -> Plan:
    """Allow a paused plan to run again. Raises `ActionError`."""
    return _change(settings, plan_id, (PlanState.PAUSED,), PlanState.READY)


def abort(settings: DatabaseServer, plan_id: int) -> Plan:
    """End a plan; messages that were not redriven stay parked. Raises `ActionError`."""
    allowed = (PlanState.READY, PlanState.PAUSED, PlanState.INCOMPLETE)
    return _change(settings, plan_id, allowed, PlanState.ABORTED)


def _change(
    settings: DatabaseServer, plan_id: int, allowed: Sequence[PlanState], state: PlanState
) -> Plan:
    with transaction(settings, CONSOLE) as session:
        find(session, plan_id)
        if (current := state_of(session, plan_id)) not in allowed:
            raise ActionError(f"plan {plan_id} is {current}")
        set_state(session, plan_id, state)
        return find(session, plan_id)


def _counted(session: Session, rows: Sequence[PlanRow]) -> list[Plan]:
    ids = [row.id for row in rows]
    states, effects = _counts(session, ids, ItemRow.state), _counts(session, ids, ItemRow.effect)
    return [
        Plan(
            id=row.id,
            service=row.service,
            state=PlanState(row.state),
            reason=row.reason,
            created_by=row.created_by,
            created_at=row.created_at,
            states=states[row.id],
            effects=effects[row.id],
        )
        for row in rows
    ]


def _counts(
    session: Session, ids: Sequence[int], column: InstrumentedAttribute[str]
) -> Mapping[int, dict[str, int]]:
    """Return the numbers of messages of these plans, by the value of a column."""
    query = select(ItemRow.plan_id, column, func.count()).where(ItemRow.plan_id.in_(ids))
    counts: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for plan_id, value, count in session.execute(
        query.group_by(ItemRow.plan_id, column).order_by(column)
    ):
        counts[plan_id][value] = count
    return counts


def _insert(session: Session, service: Service, criteria: Criteria, created_by: str) -> int:
    row = PlanRow(
        service=service.name,
        criteria=criteria.document(),
        state=PlanState.INCOMPLETE,
        created_by=created_by,
    )
    session.add(row)
    session.flush()
    return row.id


def _forget(session: Session) -> None:
    old = select(PlanRow.id).where(PlanRow.created_at < func.now() - KEPT)
    old = old.order_by(PlanRow.created_at).limit(_DELETED_TOGETHER)
    session.execute(delete(PlanRow).where(PlanRow.id.in_(old)))


def _candidates(
    settings: ParkingSettings, service: Service, lot: ParkingLot, criteria: Criteria
) -> Iterator[Candidate]:
    for message in lot.scan():
        parked = Parked.of(service, message)
        is_chosen = criteria.matches(parked)
        if is_chosen or (parked.is_waiting and service.parks_in_sequence):
            yield Candidate.of(settings, parked, message, is_chosen=is_chosen)


def _batches(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    batch: list[Candidate] = []
    for candidate in candidates:
        batch.append(candidate)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _store(session: Session, rows: Iterable[dict[str, object]]) -> None:
    """Insert messages; of several of one event, the first that can be redriven, or the first."""
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


def _rows(
    plan_id: int, position: int, batch: Sequence[Candidate], expected: Effects
) -> list[dict[str, object]]:
    return [
        {
            "plan_id": plan_id,
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
        for number, (candidate, effect) in enumerate(
            zip(batch, expected.of(batch), strict=True), start=position + 1
        )
        # A message that is not chosen is in the plan only to be redriven.
        if candidate.is_chosen or effect.is_redriven
    ]


def _state(candidate: Candidate, effect: Effect) -> ItemState:
    if not effect.is_redriven:
        return ItemState.SKIPPED
    return ItemState.PLANNED if candidate.is_chosen else ItemState.WAITING


def _choose_waiting(session: Session, plan_id: int) -> bool:
    """Plan the messages that wait, if another message of their order is planned; omit the others.

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
