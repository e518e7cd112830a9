"""`orderctl orders stuck`: undecided orders, with the place where each is stuck and the reason."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from console.commands.execution.effect import reveals
from console.commands.orders.listing import customer, document, reveal_option, second
from console.commands.orders.orders import orders
from console.commands.table import print_table
from console.commands.times import Age
from console.ledger.books import Books
from console.orders import stuck
from console.orders.delivery import Delivery
from console.orders.places import SEARCH
from console.orders.stuck import LIMIT, OLDER_THAN, Stuck
from console.settings import LedgerSettings, load_operator

#: The option of every command that searches queues.
wait_option = click.option(
    "--wait",
    type=click.FloatRange(SEARCH, 600),
    default=SEARCH,
    show_default=True,
    help="Seconds to search the queues; from 20 on, an event can be proven to be lost.",
)
#: The option of every command with a JSON document.
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@orders.command("stuck", epilog="Example: orderctl orders stuck --older-than 5m")
@reveals()
@click.option(
    "--older-than",
    type=Age(),
    default=f"{OLDER_THAN.total_seconds():.0f}s",
    show_default=True,
    help="Minimum age.",
)
@wait_option
@reveal_option
@json_option
def list_stuck(*, older_than: timedelta, wait: float, reveal: bool, as_json: bool) -> None:
    """List undecided orders that are too old or past their deadline, and where each is stuck.

    The oldest 100 are examined. Retries of the affected services are held during the search.
    """
    settings = load_operator(LedgerSettings)
    with Books.opened(settings) as books:
        report = stuck.find(settings, books, older_than=older_than, seconds=wait)
    if as_json:
        found = [_stuck_document(each, reveal=reveal) for each in report.orders]
        result = {"orders": found, "is_cut": report.is_cut, "problem": report.problem or None}
        click.echo(json.dumps(result, indent=2))
        return
    if report.orders:
        columns = ("Placed", "Order", "Customer", "Event", "Place", "Reason")
        print_table(columns, (row for each in report.orders for row in _rows(each, reveal=reveal)))
    else:
        click.echo("no order is stuck")
    if report.is_cut:
        click.echo(f"more orders are stuck; these are the oldest {LIMIT}", err=True)
    warn(report.problem)


def warn(problem: str) -> None:
    """Print why messages could not be searched for, if they were not."""
    if problem:
        click.echo(f"queues were not searched: {problem}", err=True)


def _rows(each: Stuck, *, reveal: bool) -> Iterable[tuple[object, ...]]:
    order = each.order
    known = (second(order.created_at), order.id, customer(order, reveal=reveal))
    if not each.waiting:
        yield (*known, None, None, each.problem)
    for delivery in each.waiting:
        yield (*known, delivery.event.type, delivery.where, delivery.why or None)


def _stuck_document(each: Stuck, *, reveal: bool) -> Mapping[str, Any]:
    return {
        **document(each.order, reveal=reveal),
        "age": round((datetime.now(UTC) - each.order.created_at).total_seconds(), 1),
        "waiting": [delivery_document(delivery) for delivery in each.waiting],
        "problem": each.problem or None,
    }


def delivery_document(delivery: Delivery) -> Mapping[str, Any]:
    """Return the place of an event for one service as JSON."""
    event, handled, message = delivery.event, delivery.handled, delivery.message
    attempts = handled.attempts if handled else message.attempts if message else None
    return {
        "event_id": str(event.id),
        "type": event.type,
        "source": event.source,
        "service": delivery.service,
        "place": delivery.place.value,
        "created_at": event.created_at.isoformat(),
        "sent_at": event.sent_at and event.sent_at.isoformat(),
        "handled_at": handled and handled.handled_at.isoformat(),
        "attempts": attempts,
        "reason": delivery.why or None,
    }
