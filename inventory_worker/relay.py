"""The process that publishes the inventory's outbox and deletes old rows."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from eventbus.consumer.retention import read_ages
from eventbus.loop import Loop
from eventbus.outbox.lag import read_outbox
from eventbus.outbox.relay import Relay
from eventbus.worker.ticker import make_ticker
from inventory_worker.declaration import INVENTORY
from inventory_worker.retention import RULES, RelaySettings, retention


def start(settings: RelaySettings) -> Sequence[Loop]:
    """Return the loops of the process."""
    relay = Relay.from_settings(INVENTORY, settings)
    return Loop("drain", relay.drain), retention(settings).loop()


def _read(session: Session) -> Iterator[Metric]:
    yield from read_outbox(session)
    yield from read_ages(session, RULES)


app = make_ticker(
    INVENTORY, "relay", start, RelaySettings, config="celeryconfig.ticker", read=_read
)
