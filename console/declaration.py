"""The console has a database for redrive plans and discarded messages, and no broker objects."""

from common.bus import BUS
from eventbus.topology.service import Service

CONSOLE = SERVICE = Service(name="console", package=__package__, bus=BUS)
