"""The console has a database for its people and what they do, and no broker objects."""

from common.bus import BUS
from eventbus.topology.service import Service

CONSOLE = SERVICE = Service(name="console", package=__package__, bus=BUS)
