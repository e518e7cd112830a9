"""Edits of a parked `order.created` of the inventory by `orderctl parked edit`."""

import json
from typing import Any

from amqp import Message

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.parking import journal
from console.parking.journal import Entry
from testkit.processes.orderctl import orderctl
from tests.support.operator_settings import OperatorSettings

#: The arguments of an edit of a message that `testkit.data.parked.park_created` has parked.
QUANTITY_OF_TWO = ("--set", "data.lines[0].quantity=2", "--reason", "a typing error", "--yes")


def edit(env: dict[str, str], event_id: object, *arguments: str, status: int = 0) -> str:
    """Run the command, check its exit status, and return its output."""
    result = orderctl(env, "parked", "edit", "inventory", str(event_id), *arguments)
    assert result.exit_code == status, result.output
    return result.output


def entries(settings: OperatorSettings, event_id: object) -> list[Entry]:
    """Return the entries of the journal about an event."""
    with transaction(settings, CONSOLE) as session:
        return journal.of_message(session, "inventory", str(event_id))


def envelope(message: Message) -> dict[str, Any]:
    """Return the envelope of the event in a message."""
    return dict(json.loads(message.body)[1]["event"])
