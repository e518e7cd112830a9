"""Process: cancels overdue orders, publishes the order service's outbox, removes its old rows."""

import time
from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from common.backlog import read_outbox
from common.db import engine, sessions
from common.kombu_topology import ORDER
from common.relay import Relay
from common.retention import read_ages
from common.ticker import Tick, make_ticker
from order_app.retention import KEPT, RelaySettings, retention
from order_app.sweep import sweep


def start(settings: RelaySettings) -> Tick:
    """Return what one tick does until its deadline."""
    relay = Relay.from_settings(ORDER, settings, sent_as=settings.order_created_types)
    database = sessions(engine(settings))

    def tick(until: float) -> None:
        try:
            # Half of the tick at most: many overdue orders must not keep the events waiting.
            sweep(database, (time.monotonic() + until) / 2)
        finally:
            relay.drain(until)

    return retention(settings).beside(tick)


def _read(session: Session) -> Iterator[Metric]:
    yield from read_outbox(session)
    yield from read_ages(session, KEPT)


app = make_ticker(ORDER, "relay", start, RelaySettings, config="celeryconfig.ticker", read=_read)
