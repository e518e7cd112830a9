"""The declaration of the span store, which has a database but no broker objects."""

from common.bus import BUS
from eventbus.topology.service import Service

SPAN_STORE = SERVICE = Service(
    name="trace", package=__package__, bus=BUS, monitored_tables=("spans",)
)
