"""Process: publishes the fraud check's outbox, removes its old rows, and catches up."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from common.backlog import read_outbox
from common.catch_up import CatchUp
from common.kombu_topology import FRAUD
from common.overflow import read_overflow
from common.relay import Relay
from common.retention import read_ages
from common.ticker import Tick, make_ticker
from fraud_worker.retention import KEPT, retention
from fraud_worker.settings import RelaySettings


def start(settings: RelaySettings) -> Tick:
    """Return the drain, to be called at every tick with its deadline."""
    drain = retention(settings).beside(Relay.from_settings(FRAUD, settings).drain)
    return CatchUp.from_settings(FRAUD, settings).beside(drain)


def _read(session: Session) -> Iterator[Metric]:
    yield from read_outbox(session)
    yield from read_overflow(session)
    yield from read_ages(session, KEPT)


app = make_ticker(FRAUD, "relay", start, RelaySettings, config="celeryconfig.ticker", read=_read)
