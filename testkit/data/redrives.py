"""Redrive plans of the inventory's parked messages, through `orderctl`."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from amqp import Channel
from sqlalchemy import insert

from common.kombu_topology import INVENTORY
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from eventbus.consumer.inbox import inbox
from testkit.data.parked import park
from testkit.processes.orderctl import orderctl

Environment = dict[str, str]


def run(env: Environment, *arguments: str, status: int = 0) -> str:
    """Run a command of `orderctl parked`, check its exit status, and return its output."""
    result = orderctl(env, "parked", *arguments)
    assert result.exit_code == status, result.output
    return result.output


def planned(env: Environment, *arguments: str) -> dict[str, Any]:
    """Make a plan, and return it."""
    document: dict[str, Any] = json.loads(run(env, "plan", "inventory", "--json", *arguments))
    return document


def shown(env: Environment, plan: str) -> dict[str, Any]:
    """Return a plan as `orderctl parked plans` shows it."""
    document: dict[str, Any] = json.loads(run(env, "plans", plan, "--json"))
    return document


def discard(env: Environment, event_id: str, *options: str) -> None:
    """Discard the messages of an event."""
    run(env, "discard", "inventory", "--id", event_id, "--yes", "--reason", "a test", *options)


def park_event(channel: Channel, order_id: UUID | None = None, **more: Any) -> str:
    """Park an `order.created` of an order, and return the event's id."""
    event_id = str(uuid4())
    event = {"id": event_id, "subject": str(order_id or uuid4())}
    park(channel, event_id, event=event, type="order.created", **more)
    return event_id


def handle(settings: DatabaseSettings, *event_ids: str) -> None:
    """Record events as handled by the inventory."""
    more = {"type": "order.created", "source": "order", "attempts": 1}
    rows = [
        more | {"event_id": UUID(name), "subject": uuid4(), "occurred_at": datetime.now(UTC)}
        for name in event_ids
    ]
    with transaction(settings, INVENTORY) as session:
        session.execute(insert(inbox), rows)
