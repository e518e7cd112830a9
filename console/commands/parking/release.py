"""`orderctl parked release`: later events of an order pass a parked one."""

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import changes
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name, reason_option
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import print_line
from console.parking import release as actions
from console.settings import RepairSettings, load_operator


@parked.command(epilog='Example: orderctl parked release notification 01a2… --reason "purged"')
@changes(subject="event_id", details=("reason",))
@documented("service", "event_id", "released")
@click.argument("service", type=SERVICE)
@click.argument("event_id", metavar="EVENT")
@reason_option("Reason, which is stored in the journal.")
def release(service: str, event_id: str, *, reason: str) -> None:
    """Let the later events of an order pass an event; a parked event stays parked.

    For services that park in sequence. Events that are parked because they waited behind it stay
    parked, and can be redriven.
    """
    settings = load_operator(RepairSettings)
    report(service=service, event_id=event_id, released=False)
    actions.release(
        settings, CONSUMERS[service], event_id, reason=reason, released_by=operator_name()
    )
    report(released=True)
    print_line(f"{service}: later events pass {event_id}")
