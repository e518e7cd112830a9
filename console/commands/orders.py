"""`orderctl orders`: an operator's actions on orders."""

from uuid import UUID

import click

from console.actions import order as actions
from console.settings import DatabaseSettings, load_operator


@click.group()
def orders() -> None:
    """Ship orders."""


@orders.command(epilog="Example: orderctl orders ship 01a20455-3585-71f9-b4a7-0b1903aed44d")
@click.argument("order_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)
def ship(order_ids: tuple[UUID, ...]) -> None:
    """Record that the goods of confirmed orders have left the warehouse.

    The customer receives a mail, the stock on hand is reduced, and the order can no longer be
    cancelled. Shipping an order again changes nothing. Stops at the first order that cannot be
    shipped.
    """
    settings = load_operator(DatabaseSettings)
    for order_id in order_ids:
        click.echo(f"order {order_id}: {actions.ship(settings, order_id).status}")
