"""The declaration of the inventory service."""

from common.bus import BUS
from eventbus.topology.service import Service

INVENTORY = SERVICE = Service(
    name="inventory",
    package=__package__,
    bus=BUS,
    publishes=("stock.reserved", "stock.rejected", "stock.released"),
    consumes=("order.created", "order.shipped", "order.cancelled"),
    ticks=("relay",),
    essential=True,
    monitored_tables=(
        "stock",
        "stock_entries",
        "stock_movements",
        "reservations",
        "reservation_lines",
    ),
)
