"""The declaration of the order service."""

from common.bus import BUS
from eventbus.topology.service import Service

ORDER = SERVICE = Service(
    name="order",
    package=__package__,
    bus=BUS,
    publishes=("order.created", "order.confirmed", "order.shipped", "order.cancelled"),
    consumes=("stock.reserved", "stock.rejected", "stock.released"),
    ticks=("relay",),
    essential=True,
    # API keys and their hashes are not included.
    monitored_tables=("orders", "order_lines", "cancellations", "shipments"),
)
