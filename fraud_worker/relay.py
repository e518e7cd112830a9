"""The process that publishes the fraud check's outbox, deletes old rows, and catches up."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.overflow import read_overflow
from eventbus.consumer.retention import read_ages
from eventbus.loop import Loop
from eventbus.outbox.lag import read_outbox
from eventbus.outbox.relay import Relay
from eventbus.worker.ticker import make_ticker
from fraud_worker.declaration import FRAUD
from fraud_worker.retention import RULES, retention
from fraud_worker.settings import RelaySettings


def start(settings: RelaySettings) -> Sequence[Loop]:
    """Return the loops of the process."""
    relay = Relay.from_settings(FRAUD, settings)
    catch_up = CatchUp.from_settings(FRAUD, settings)
    return Loop("drain", relay.drain), retention(settings).loop(), catch_up.loop()


def _read(session: Session) -> Iterator[Metric]:
    yield from read_outbox(session)
    yield from read_overflow(session)
    yield from read_ages(session, RULES)


app = make_ticker(FRAUD, "relay", start, RelaySettings, config="celeryconfig.ticker", read=_read)
