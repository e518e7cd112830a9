"""The declaration of the analytics service, which reads the stream instead of a queue."""

from common.bus import BUS
from eventbus.topology.service import Service

ANALYTICS = SERVICE = Service(
    name="analytics",
    package=__package__,
    bus=BUS,
    ticks=("reader",),
    reads_stream=True,
    monitored_tables=("minutes", "sku_minutes", "stream_position", "skipped_events"),
)
