"""The console has a database for what operators do with parked messages, and no broker objects."""

from common.bus import BUS
from eventbus.topology.service import Service

CONSOLE = SERVICE = Service(name="console", package=__package__, bus=BUS)
