"""The declaration of the fraud check."""

from common.bus import BUS
from eventbus.topology.service import Service

FRAUD = SERVICE = Service(
    name="fraud",
    package=__package__,
    bus=BUS,
    publishes=("fraud.suspected",),
    consumes=("order.created",),
    ticks=("relay",),
)
