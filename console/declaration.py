"""The declaration of the console: a database for people and their actions, no broker objects."""

from common.bus import BUS
from eventbus.topology.service import Service

CONSOLE = SERVICE = Service(name="console", package=__package__, bus=BUS)
