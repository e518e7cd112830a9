"""`orderctl orders ship` and `cancel`: an operator's actions on orders."""

from uuid import UUID

import click

from console.actions import order as actions
from console.commands.execution.effect import changes
from console.commands.operator import operator_name
from console.settings import DatabaseSettings, load_operator
from eventbus.messaging.untrusted import storable
from order_app.http.requests import REASON_LIMIT


@click.group()
def orders() -> None:
    """Find, follow, ship and cancel orders."""


@orders.command(epilog="Example: orderctl orders ship 01a20455-3585-71f9-b4a7-0b1903aed44d")
@changes(subject="order_ids", service="order")
@click.argument("order_ids", metavar="ID...", type=click.UUID, nargs=-1, required=True)
def ship(order_ids: tuple[UUID, ...]) -> None:
    """Record that the goods of confirmed orders have left the warehouse.

    Your account name is stored. The customer receives an email, the stock on hand is reduced, and
    the order can no longer be cancelled. Shipping an order again changes nothing. Stops at the
    first order that cannot be shipped.
    """
    settings = load_operator(DatabaseSettings)
    for order_id in order_ids:
        order = actions.ship(settings, order_id, operator=operator_name())
        click.echo(f"order {order_id}: {order.status}")


@orders.command(epilog='Example: orderctl orders cancel ID --reason "the customer called"')
@changes(subject="order_id", service="order", details=("reason",))
@click.argument("order_id", metavar="ID", type=click.UUID)
@click.option(
    "--reason", required=True, help="Reason, for other operators; the customer does not see it."
)
def cancel(order_id: UUID, *, reason: str) -> None:
    """Cancel a pending or confirmed order.

    The reason is stored with your account name. The customer receives an email, and the stock is
    available again. Cancelling an order again changes nothing, and keeps the first reason.
    """
    reason = storable(reason.strip())
    if not 0 < len(reason) <= REASON_LIMIT:
        raise click.BadParameter(
            f"must have 1 to {REASON_LIMIT} characters", param_hint="'--reason'"
        )
    settings = load_operator(DatabaseSettings)
    order = actions.cancel(settings, order_id, reason=reason, operator=operator_name())
    click.echo(f"order {order_id}: {order.status}")
