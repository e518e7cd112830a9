"""Redrive plans: parked messages, selected once, and the expected effect of each redrive."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.errors import ActionError
from console.models import ItemRow, PlanRow, PlanState
from console.parking.criteria import Criteria
from console.parking.redrive.lease import is_held
from console.settings import DatabaseServer
from eventbus.topology.service import Service

#: Age at which a plan is deleted when another plan is created. At this age, its messages may be too
#: old to be redriven.
KEPT = timedelta(days=90)

#: Maximum number of plans that are deleted in one transaction, with all their messages.
_DELETED_TOGETHER = 10

#: Maximum number of plans that are listed, from the newest.
LISTED = 50

#: The reason that is stored with a plan whose preparation ended with its process.
INTERRUPTED = "its preparation was interrupted: plan again"

#: Maximum number of characters of a stored reason.
_REASON_LIMIT = 1_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan with the numbers of its messages, by state and by expected effect.

    `examined` of `depth` messages of the parking lot were read for its preparation.
    """

    id: int
    service: str
    criteria: Mapping[str, Any]
    state: PlanState
    reason: str | None
    created_by: str
    created_at: datetime
    depth: int | None
    examined: int
    states: dict[str, int]
    effects: dict[str, int]


def show(settings: DatabaseServer, plan_id: int) -> Plan:
    """Return a plan. Raises `ActionError` if it does not exist."""
    with transaction(settings, CONSOLE) as session:
        return find(session, plan_id)


def newest(settings: DatabaseServer) -> list[Plan]:
    """Return the newest plans, at most `LISTED`, newest first."""
    with transaction(settings, CONSOLE) as session:
        rows = select(PlanRow).order_by(PlanRow.id.desc()).limit(LISTED)
        return [_plan(session, row) for row in session.scalars(rows).all()]


def items(settings: DatabaseServer, plan_id: int, *, limit: int | None = None) -> list[ItemRow]:
    """Return the messages of a plan in the order of their redrive, at most `limit`."""
    with transaction(settings, CONSOLE) as session:
        find(session, plan_id)
        return list(session.scalars(_items(plan_id, limit)))


def find(session: Session, plan_id: int) -> Plan:
    """Return a plan. Raises `ActionError` if it does not exist."""
    row = session.get(PlanRow, plan_id)
    if row is None:
        raise ActionError(f"plan {plan_id} does not exist; see: orderctl parked plans")
    return _plan(session, row)


def insert(session: Session, service: Service, criteria: Criteria, created_by: str) -> int:
    """Store a plan without messages, which is to be prepared, and return its number."""
    row = PlanRow(
        service=service.name,
        criteria=criteria.document(),
        state=PlanState.INCOMPLETE,
        created_by=created_by,
    )
    session.add(row)
    session.flush()
    return row.id


def forget(session: Session) -> None:
    """Delete the plans that are older than `KEPT`, a limited number at a time."""
    old = select(PlanRow.id).where(PlanRow.created_at < func.now() - KEPT)
    old = old.order_by(PlanRow.created_at).limit(_DELETED_TOGETHER)
    session.execute(delete(PlanRow).where(PlanRow.id.in_(old)))


def state_of(session: Session, plan_id: int) -> PlanState:
    """Return the state of an existing plan, locked until the end of the transaction."""
    row = select(PlanRow.state).where(PlanRow.id == plan_id).with_for_update()
    return PlanState(session.scalars(row).one())


def set_state(session: Session, plan_id: int, state: PlanState, reason: str | None = None) -> None:
    """Change the state of a plan, with the reason if its preparation or run ended early."""
    row = update(PlanRow).where(PlanRow.id == plan_id)
    text = reason and reason[:_REASON_LIMIT]
    session.execute(row.values(state=state, reason=text, updated_at=func.now()))


def fail(session: Session, plan_id: int, reason: str) -> None:
    """End the preparation of a plan, and delete its messages. An aborted plan remains aborted."""
    session.execute(delete(ItemRow).where(ItemRow.plan_id == plan_id))
    if state_of(session, plan_id) is PlanState.INCOMPLETE:
        set_state(session, plan_id, PlanState.FAILED, reason)


def fail_interrupted(session: Session, service: str) -> None:
    """End the preparations whose processes were killed. The caller holds the lease of the service.

    Each has held the lease until its process ended.
    """
    rows = select(PlanRow.id).where(
        PlanRow.service == service, PlanRow.state == PlanState.INCOMPLETE
    )
    for plan_id in session.scalars(rows).all():
        fail(session, plan_id, INTERRUPTED)


def count(session: Session, plan_id: int) -> None:
    """Store the numbers of a plan's messages. The caller holds the lease of the service."""
    states, effects = (_counts(session, plan_id, each) for each in (ItemRow.state, ItemRow.effect))
    row = update(PlanRow).where(PlanRow.id == plan_id)
    session.execute(row.values(states=states, effects=effects))


def move(session: Session, plan_id: int, before: Mapping[str, int], state: str) -> None:
    """Store another state for messages, which had the states `before`.

    The cost does not depend on the size of the plan. The caller holds the lease of the service.
    """
    row = session.get_one(PlanRow, plan_id, with_for_update=True)
    states = Counter(row.states)
    states.subtract(before)
    states[state] += sum(before.values())
    row.states = dict(+states)


def pause(settings: DatabaseServer, plan_id: int) -> Plan:
    """Make the run of a plan end after the current message. Raises `ActionError`."""
    return _change(settings, plan_id, (PlanState.READY,), PlanState.PAUSED)


def resume(settings: DatabaseServer, plan_id: int) -> Plan:
    """Allow a paused plan to run again. Raises `ActionError`."""
    return _change(settings, plan_id, (PlanState.PAUSED,), PlanState.READY)


def abort(settings: DatabaseServer, plan_id: int) -> Plan:
    """End a plan or its preparation; messages that were not redriven stay parked.

    Raises `ActionError`.
    """
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


def _plan(session: Session, row: PlanRow) -> Plan:
    state, reason = PlanState(row.state), row.reason
    # The process that prepared the plan was killed, and no other process has used the parking lot
    # since.
    if state is PlanState.INCOMPLETE and not is_held(session, row.service):
        state, reason = PlanState.FAILED, INTERRUPTED
    return Plan(
        id=row.id,
        service=row.service,
        criteria=row.criteria,
        state=state,
        reason=reason,
        created_by=row.created_by,
        created_at=row.created_at,
        depth=row.depth,
        examined=row.examined,
        states=dict(sorted(row.states.items())),
        effects=dict(sorted(row.effects.items())),
    )


def _items(plan_id: int, limit: int | None) -> Select[ItemRow]:
    rows = select(ItemRow).where(ItemRow.plan_id == plan_id)
    return rows.order_by(ItemRow.rank, ItemRow.position).limit(limit)


def _counts(session: Session, plan_id: int, column: InstrumentedAttribute[str]) -> dict[str, int]:
    """Return the numbers of messages of a plan, by the value of a column."""
    query = select(column, func.count()).where(ItemRow.plan_id == plan_id).group_by(column)
    return dict(session.execute(query).all())
