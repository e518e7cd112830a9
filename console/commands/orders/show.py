"""`orderctl orders show`: one order, and where each of its events is."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import click

from console.actions import order as actions
from console.actions.order import Story
from console.commands.execution.effect import reveals
from console.commands.orders.listing import reveal_option, second
from console.commands.orders.orders import orders
from console.commands.orders.stuck import delivery_document, json_option, wait_option, warn
from console.commands.table import print_table, printable
from console.errors import ActionError
from console.ledger.books import Books
from console.orders import address, places
from console.orders.delivery import Delivery
from console.orders.places import Places
from console.settings import LedgerSettings, load_operator
from notification_worker.mail.money import amount
from order_app.use_cases import UnknownOrder


@orders.command("show", epilog="Example: orderctl orders show 01a20455-3585-71f9-b4a7-0b1903aed44d")
@reveals(subject="order_id")
@click.argument("order_id", metavar="ID", type=click.UUID)
@wait_option
@reveal_option
@json_option
def show_order(order_id: UUID, *, wait: float, reveal: bool, as_json: bool) -> None:
    """Show one order, and where each of its events is for each service that consumes it."""
    settings = load_operator(LedgerSettings)
    try:
        story = actions.show(settings, order_id)
    except UnknownOrder:
        raise ActionError(f"order {order_id} does not exist") from None
    with Books.opened(settings) as books:
        found = places.follow(settings, books, order_id, seconds=wait)
    if as_json:
        click.echo(json.dumps(_story_document(story, found, reveal=reveal), indent=2))
        return
    for line in _lines(story, reveal=reveal):
        click.echo(line)
    columns = ("Created", "Event", "Place", "Reason")
    print_table(columns, map(_event_row, found.deliveries))
    warn(found.problem)


def _event_row(delivery: Delivery) -> tuple[object, ...]:
    event = delivery.event
    return second(event.created_at), event.type, delivery.where, delivery.why or None


def _lines(story: Story, *, reveal: bool) -> Iterable[str]:
    order = story.order
    reason = f", {order.reason}" if order.reason else ""
    email = order.customer_email if reveal else address.masked(order.customer_email)
    yield f"order {order.id}: {order.status}{reason}"
    if story.cancellation:
        by = story.cancellation.cancelled_by
        yield f"cancelled by {printable(by)}: {printable(story.cancellation.reason)}"
    if story.shipped_by:
        yield f"shipped by {printable(story.shipped_by)}"
    yield f"placed {second(order.created_at)}, deadline {second(order.deadline_at)} UTC"
    yield f"customer {printable(email)}"
    lines = ", ".join(f"{line.quantity} \N{MULTIPLICATION SIGN} {line.sku}" for line in order.lines)
    yield f"total {amount(order.total, order.currency)}: {lines}"


def _story_document(story: Story, found: Places, *, reveal: bool) -> Mapping[str, Any]:
    order, cancellation = story.order, story.cancellation
    return {
        "id": str(order.id),
        "status": order.status,
        "reason": order.reason,
        "cancelled_by": cancellation and cancellation.cancelled_by,
        "cancellation_reason": cancellation and cancellation.reason,
        "shipped_by": story.shipped_by,
        "customer": order.customer_email if reveal else address.masked(order.customer_email),
        "currency": order.currency,
        "total": order.total,
        "placed_at": order.created_at.isoformat(),
        "deadline_at": order.deadline_at.isoformat(),
        "decided_at": order.decided_at and order.decided_at.isoformat(),
        "deliveries": [delivery_document(delivery) for delivery in found.deliveries],
        "problem": found.problem or None,
    }
