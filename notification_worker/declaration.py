"""The declaration of the notification service."""

from common.bus import BUS
from eventbus.topology.service import Service

NOTIFICATION = SERVICE = Service(
    name="notification",
    package=__package__,
    bus=BUS,
    consumes=(
        "order.created",
        "order.confirmed",
        "order.shipped",
        "order.cancelled",
        "fraud.suspected",
    ),
    ticks=("mailer",),
)
