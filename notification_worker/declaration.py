"""What the notification service consumes and runs."""

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
