"""`orderctl orders`: what a person does about orders."""

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
    """Note that the goods of confirmed orders have left the warehouse.

    The customer is told, the stock goes down, and the order cannot be cancelled any more. To ship
    an order again changes nothing. Stops at the first order that cannot be shipped.
    """
    settings = load_operator(DatabaseSettings)
    for order_id in order_ids:
        click.echo(f"order {order_id}: {actions.ship(settings, order_id).status}")
