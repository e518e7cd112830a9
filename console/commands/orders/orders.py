"""`orderctl orders ship` and `cancel`: an operator's actions on orders."""

from uuid import UUID

import click

from console.actions import order as actions
from console.commands.execution.effect import changes
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name, reason_option
from console.settings import DatabaseSettings, load_operator


@click.group()
def orders() -> None:
    """Find, follow, ship and cancel orders."""


@orders.command(epilog="Example: orderctl orders ship 01a20455-3585-71f9-b4a7-0b1903aed44d")
@changes(subject="order_ids", service="order")
@documented("orders")
@click.argument("order_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)
def ship(order_ids: tuple[UUID, ...]) -> None:
    """Record that the goods of confirmed orders have left the warehouse.

    Your account name is stored. The customer receives an email, the stock on hand is reduced, and
    the order can no longer be cancelled. Shipping an order again changes nothing. Stops at the
    first order that cannot be shipped.
    """
    settings = load_operator(DatabaseSettings)
    shipped = list[dict[str, str]]()
    # The list is the same object until the end, so if an order cannot be shipped, the document
    # contains the earlier orders.
    report(orders=shipped)
    for order_id in order_ids:
        order = actions.ship(settings, order_id, operator=operator_name())
        shipped.append({"order_id": str(order_id), "status": order.status})
        click.echo(f"order {order_id}: {order.status}")


@orders.command(epilog='Example: orderctl orders cancel ID --reason "the customer called"')
@changes(subject="order_id", service="order", details=("reason",))
@documented("order_id", "status")
@click.argument("order_id", metavar="ID", type=click.UUID)
@reason_option("Reason, for other operators; the customer does not see it.")
def cancel(order_id: UUID, *, reason: str) -> None:
    """Cancel a pending or confirmed order.

    The reason is stored with your account name. The customer receives an email, and the stock is
    available again. Cancelling an order again changes nothing, and keeps the first reason.
    """
    settings = load_operator(DatabaseSettings)
    report(order_id=str(order_id))
    order = actions.cancel(settings, order_id, reason=reason, operator=operator_name())
    report(status=order.status)
    click.echo(f"order {order_id}: {order.status}")
