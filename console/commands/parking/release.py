"""`orderctl parked release`: later events of an order pass a parked one."""

import click

from common.kombu_topology import CONSOLE
from console.actions.parked import CONSUMERS
from console.commands.execution.effect import changes
from console.commands.operator import operator_name
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import printable
from console.databases import parked_events
from console.databases.service_database import transaction
from console.errors import ActionError
from console.parking import journal
from console.parking.journal import Change, Entry
from console.settings import RepairSettings, load_operator


@parked.command(epilog='Example: orderctl parked release notification 01a2… --reason "purged"')
@changes(subject="event_id", details=("reason",))
@click.argument("service", type=SERVICE)
@click.argument("event_id", metavar="EVENT")
@click.option("--reason", required=True, help="Reason, which is stored in the journal.")
def release(service: str, event_id: str, *, reason: str) -> None:
    """Let the later events of an order pass an event; a parked event stays parked.

    For services that park in sequence. Events that are parked because they waited behind it stay
    parked, and can be redriven.
    """
    settings, consumer = load_operator(RepairSettings), CONSUMERS[service]
    if not consumer.parks_in_sequence:
        raise ActionError(f"{service} does not park in sequence: no event waits behind another")
    if not parked_events.release(settings, consumer, [event_id]):
        raise ActionError(f"{service} has no record of {event_id}: no event waits behind it")
    with transaction(settings, CONSOLE) as session:
        entry = Entry(
            service=service,
            change=Change.RELEASED,
            recorded_by=operator_name(),
            event_id=event_id,
            text=reason,
        )
        journal.record(session, entry)
    click.echo(printable(f"{service}: later events pass {event_id}"))
