"""Process: cancels overdue orders and publishes the order service's outbox."""

import time
from collections.abc import Callable

from common.backlog import read_outbox
from common.db import engine, sessions
from common.kombu_topology import ORDER
from common.relay import Relay
from common.settings import ServiceSettings
from common.ticker import make_ticker
from order_app.sweep import sweep


def start(settings: ServiceSettings) -> Callable[[float], None]:
    """Return what one tick does until its deadline."""
    relay = Relay.from_settings(ORDER, settings)
    database = sessions(engine(settings))

    def tick(until: float) -> None:
        try:
            # Half of the tick at most: many overdue orders must not keep the events waiting.
            sweep(database, (time.monotonic() + until) / 2)
        finally:
            relay.drain(until)

    return tick


app = make_ticker(
    ORDER, "relay", start, ServiceSettings, config="celeryconfig.ticker", read=read_outbox
)
