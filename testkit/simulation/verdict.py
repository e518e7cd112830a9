"""The verdict on a run, from the contents of databases and broker after everything is drained."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eventbus.database.db import transaction
from eventbus.events import codec
from inventory_worker import movements
from testkit.simulation.broker import SimulatedBroker
from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.shop import ON_HAND, SKUS

_RESERVED = """
SELECT sku, sum(quantity)::int FROM reservation_lines JOIN reservations USING (order_id)
WHERE status = 'RESERVED' GROUP BY sku
"""

_ORDERED = """
SELECT sku, sum(quantity)::int FROM order_lines JOIN orders ON orders.id = order_id
WHERE status = '{status}' GROUP BY sku
"""

#: Situations that several seeds must reach: a property whose situation never occurs is not tested.
SITUATIONS = (
    "returned",
    "nacked",
    "batch isolated",
    "duplicate dropped",
    "another relay took over",
    "connection cut between publish and confirm",
    "retried",
    "parked",
)

_TOTALS = ("orders", "events", "faults", "lost", "doubled", "stuck")


@dataclass
class Verdict:
    """The result of one seed. `problems` is empty if every invariant holds."""

    seed: int
    orders: int = 0
    events: int = 0
    faults: int = 0
    steps: int = 0
    lost: int = 0
    doubled: int = 0
    #: The number of runs, 0 or 1, in which events were still moving or unsent at the limit.
    stuck: int = 0
    problems: list[str] = field(default_factory=list)
    #: The number of occurrences of each situation.
    seen: Counter[str] = field(default_factory=Counter)
    #: The next choice after the end of the run, which depends on all earlier choices.
    next_choice: float = 0.0


def totals(verdicts: Sequence[Verdict]) -> str:
    """Return the totals of several seeds in one line."""
    counts = (f"{name} {sum(getattr(each, name) for each in verdicts):,}" for name in _TOTALS)
    return " ".join((f"seeds {len(verdicts):,}", *counts))


def never_reached(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the situations that no seed has reached."""
    seen = sum((each.seen for each in verdicts), Counter[str]())
    return [situation for situation in SITUATIONS if not seen[situation]]


def check(
    verdict: Verdict,
    databases: Mapping[str, SimulatedDatabase],
    broker: SimulatedBroker,
) -> None:
    """Check each invariant, and record violations."""
    _check_effects(verdict, databases, broker)
    _check_order(verdict, broker)
    if broker.leaked:
        verdict.problems.append(f"{len(broker.leaked)} retries reached other services")
    verdict.problems += broker.passed
    if not verdict.stuck:
        _check_stock(verdict, databases["order"], databases["inventory"])


def _check_effects(
    verdict: Verdict,
    databases: Mapping[str, SimulatedDatabase],
    broker: SimulatedBroker,
) -> None:
    recorded = {
        str(event_id): event_type
        for database in databases.values()
        for event_id, event_type in database.rows("SELECT event_id, type FROM sim.recorded")
    }
    verdict.events = len(recorded)
    for service in broker.services.values():
        if service.queue in broker.observed:
            continue
        query = "SELECT event_id, count(*) FROM sim.effects GROUP BY event_id"
        effects = {str(i): n for i, n in databases[service.name].rows(query)}
        consumed = [i for i, t in recorded.items() if t in service.consumed_types]
        lost = [recorded[i] for i in consumed if i not in effects]
        doubled = [recorded[i] for i, count in effects.items() if count > 1]
        if not verdict.stuck:
            verdict.lost += len(lost)
            verdict.problems += [f"{t} has no effect in {service.name}" for t in lost]
        verdict.doubled += len(doubled)
        verdict.problems += [f"{t} has several effects in {service.name}" for t in doubled]


def _check_order(verdict: Verdict, broker: SimulatedBroker) -> None:
    for queue, messages in broker.arrivals.items():
        latest: dict[tuple[str, object], int] = {}
        reached = set[str]()
        for message in messages:
            if message.event_id in reached:
                continue
            reached.add(message.event_id)
            event = codec.read(message.body)
            key = event.source, event.subject
            if event.sequence < latest.get(key, 0):
                verdict.problems.append(f"{event.type} overtook an earlier event to {queue}")
            latest[key] = event.sequence


def _check_stock(verdict: Verdict, order: SimulatedDatabase, inventory: SimulatedDatabase) -> None:
    levels = {
        str(sku): (on_hand, reserved)
        for sku, on_hand, reserved in inventory.rows("SELECT sku, on_hand, reserved FROM stock")
    }
    held = dict(inventory.rows(_RESERVED))
    confirmed = dict(order.rows(_ORDERED.format(status="CONFIRMED")))
    shipped = dict(order.rows(_ORDERED.format(status="SHIPPED")))
    for sku in SKUS:
        expected = ON_HAND - shipped.get(sku, 0), confirmed.get(sku, 0)
        if levels[sku] != expected or held.get(sku, 0) != expected[1]:
            verdict.problems.append(
                f"{sku}: on hand and reserved are {levels[sku]}, not {expected}"
            )
    ((pending,),) = order.rows("SELECT count(*) FROM orders WHERE status = 'PENDING'")
    if pending:
        verdict.problems.append(f"{pending} orders are PENDING")
    with transaction(inventory.sessions("verdict")) as session:
        if differences := movements.differences(session, 10):
            verdict.problems.append(f"levels differ from their movements: {differences}")
