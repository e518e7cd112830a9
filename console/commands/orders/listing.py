"""`orderctl orders list`: orders by status, address and time."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from console.commands.execution.effect import reveals
from console.commands.orders.orders import orders
from console.commands.table import print_table
from console.commands.times import Moment
from console.orders import address, listing
from console.settings import DatabaseSettings, load_operator
from notification_worker.mail.money import amount
from order_app.domain import Status
from order_app.storage.search import Criteria, Summary

#: Maximum number of orders in one list.
LIMIT = 1_000

#: An option of every command that shows addresses.
reveal_option = click.option("--reveal", is_flag=True, help="Show addresses of customers in full.")


@orders.command("list", epilog="Example: orderctl orders list --status PENDING --since 1h")
@reveals()
@click.option(
    "--status",
    "statuses",
    type=click.Choice(list(Status), case_sensitive=False),
    multiple=True,
    help="Only orders with this status; can be repeated.",
)
@click.option("--email", metavar="ADDRESS", help="The customer's address, in full.")
@click.option("--since", type=Moment(), help="Placed at this time or later.")
@click.option("--until", type=Moment(), help="Placed before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, LIMIT),
    default=50,
    show_default=True,
    help="Maximum number of orders.",
)
@click.option("--after", metavar="CURSOR", help="Continue the list that ended with this cursor.")
@reveal_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_orders(
    statuses: tuple[Status, ...],
    *,
    email: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    after: str | None,
    reveal: bool,
    as_json: bool,
) -> None:
    """List orders, newest first.

    The address may differ from the customer's only in capital letters. If there are more orders
    than --limit, the command prints the cursor with which the list continues.
    """
    criteria = Criteria(
        statuses=statuses,
        email=address.entered(email) if email is not None else "",
        since=since,
        until=until,
    )
    page = listing.page(load_operator(DatabaseSettings), criteria, limit=limit, after=after)
    if as_json:
        found = [document(order, reveal=reveal) for order in page.orders]
        click.echo(json.dumps({"orders": found, "next": page.next}, indent=2))
        return
    if page.orders:
        columns = ("Placed", "Order", "Status", "Total", "Customer")
        print_table(columns, (_row(order, reveal=reveal) for order in page.orders))
    else:
        click.echo("no orders")
    if page.next:
        click.echo(f"more orders: --after {page.next}", err=True)


def customer(order: Summary, *, reveal: bool) -> str:
    """Return the address of an order's customer, masked unless it is to be revealed."""
    return order.customer_email if reveal else address.masked(order.customer_email)


def second(moment: datetime) -> str:
    """Return a time in UTC to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def document(order: Summary, *, reveal: bool) -> Mapping[str, Any]:
    """Return an order of a list as JSON; `total` is in minor units of the currency."""
    return {
        "id": str(order.id),
        "status": order.status,
        "reason": order.reason,
        "customer": customer(order, reveal=reveal),
        "currency": order.currency,
        "total": order.total,
        "placed_at": order.created_at.isoformat(),
        "deadline_at": order.deadline_at.isoformat(),
        "decided_at": order.decided_at and order.decided_at.isoformat(),
    }


def _row(order: Summary, *, reveal: bool) -> tuple[object, ...]:
    status = f"{order.status} ({order.reason})" if order.reason else order.status
    total = amount(order.total, order.currency)
    return second(order.created_at), order.id, status, total, customer(order, reveal=reveal)
