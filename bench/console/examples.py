"""Examples for the arguments of the pages: orders, messages, groups and plans that exist."""

import re
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from amqp import Message

from bench.console.operator import PATIENCE, Operator
from bench.console.parked_messages import RARE
from bench.system.measured import Measured
from bench.system.servers import SKUS, execute, until
from common.kombu_topology import INVENTORY
from console.broker.parked_message import Parked, digest, event_id
from console.broker.parking_lot import parking_lot
from console.parking.groups import key_of
from console.parking.index.reading import LARGE
from console.settings import BrokerAdminSettings
from order_app.http import cursor
from order_app.use_cases import Position

#: Orders that are not decided; their events are parked.
STUCK = 1_000

#: A query for an example from the middle of the list of all orders, where a later page starts.
_FAR = """
SELECT id::text, customer_email, created_at FROM orders WHERE status = 'CONFIRMED'
ORDER BY created_at DESC OFFSET (SELECT count(*) / 2 FROM orders WHERE status = 'CONFIRMED') LIMIT 1
"""
_STUCK = "SELECT id::text FROM orders WHERE status = 'PENDING' ORDER BY created_at LIMIT 1"


#: A pattern of the number of a service's parked messages, and of the time of its index.
_DEPTH = re.compile(r"<p>([\d\s]+) parked( as of)?")

#: The page of a plan that can run contains this text.
_PREPARED = "badge ready"


def examples(measured: Measured, operator: Operator, parked: int) -> Mapping[str, str]:
    """Return the examples by name, from a system with this many parked messages.

    As side effects, a plan is made, and the failure groups are remembered.
    """
    ((order, email, placed_at),) = execute(measured, "order", _FAR)
    ((stuck,),) = execute(measured, "order", _STUCK)
    until(lambda: _is_indexed(operator, parked), "the parking lots are indexed", within=PATIENCE)
    oldest, newest = _ends(measured)
    first = Parked.of(INVENTORY, oldest)
    cause = {"type": first.type, "failure": first.failure, "frame": first.frame}
    group = key_of(first.type, first.failure, first.frame)
    # The plan is made first, because reading the groups hides messages from it.
    plan = _plan(operator, RARE)
    operator.get("/parked/groups")
    path = f"/parked/{INVENTORY.name}/groups/{group}"
    until(lambda: operator.has(path), f"the group {group} is remembered", within=PATIENCE)
    page = f"/parked/{INVENTORY.name}/plans/{plan}"
    until(lambda: _PREPARED in operator.get(page), f"plan {plan} is prepared", within=PATIENCE)
    return {
        "service": INVENTORY.name,
        "event": first.id,
        "digest": first.digest,
        "last_event": event_id(newest),
        "last_digest": digest(newest),
        "group": group,
        **{name: value or "" for name, value in cause.items()},
        "plan": plan,
        "order": order,
        "stuck": stuck,
        "email": email,
        "after": cursor.encode(Position(created_at=placed_at, id=UUID(order))),
        "since": _minute(placed_at - timedelta(hours=1)),
        "until": _minute(placed_at),
        "sku": SKUS[0],
        "person": operator.name,
    }


def _ends(measured: Measured) -> tuple[Message, Message]:
    """Return the oldest and the newest parked message of the inventory."""
    settings = BrokerAdminSettings(**measured.vhost.administrator)
    with parking_lot(settings, INVENTORY) as lot:
        messages = lot.scan()
        oldest = next(messages)
        return oldest, deque(messages, maxlen=1)[0]


def _is_indexed(operator: Operator, parked: int) -> bool:
    found = _DEPTH.findall(operator.get("/parked"))
    depths = [(int("".join(depth.split())), as_of) for depth, as_of in found]
    is_complete = sum(depth for depth, _ in depths) == parked
    return is_complete and all(as_of or depth <= LARGE for depth, as_of in depths)


def _plan(operator: Operator, failure: str) -> str:
    path = f"/parked/{INVENTORY.name}/plan"
    return operator.post(path, failure=failure).rpartition("/")[2]


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M}"
