"""Process: publishes the inventory's outbox."""

from collections.abc import Callable

from common.backlog import read_outbox
from common.kombu_topology import INVENTORY
from common.relay import Relay
from common.settings import ServiceSettings
from common.ticker import make_ticker


def start(settings: ServiceSettings) -> Callable[[float], None]:
    """Return the drain, to be called at every tick with its deadline."""
    return Relay.from_settings(INVENTORY, settings).drain


app = make_ticker(
    INVENTORY, "relay", start, ServiceSettings, config="celeryconfig.ticker", read=read_outbox
)
