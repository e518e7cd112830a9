"""The span store has a database, and no broker objects."""

from common.bus import BUS
from eventbus.topology.service import Service

SPAN_STORE = SERVICE = Service(
    name="trace", package=__package__, bus=BUS, monitored_tables=("spans",)
)
