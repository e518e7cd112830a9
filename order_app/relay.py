"""The process that publishes the outbox, cancels overdue orders, and deletes old rows."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from eventbus.consumer.retention import read_ages
from eventbus.database.db import engine, sessions
from eventbus.loop import Loop
from eventbus.outbox.lag import read_outbox
from eventbus.outbox.relay import Relay
from eventbus.worker.ticker import make_ticker
from order_app.declaration import ORDER
from order_app.retention import RULES, RelaySettings, retention
from order_app.sweep import Sweep


def start(settings: RelaySettings) -> Sequence[Loop]:
    """Return the loops of the process, which do not wait for each other."""
    relay = Relay.from_settings(ORDER, settings, sent_as=settings.order_created_types)
    sweep = Sweep(sessions(engine(settings)))
    return (
        Loop("drain", relay.drain),
        Loop("sweep", sweep.step),
        retention(settings).loop(),
    )


def _read(session: Session) -> Iterator[Metric]:
    yield from read_outbox(session)
    yield from read_ages(session, RULES)


app = make_ticker(ORDER, "relay", start, RelaySettings, config="celeryconfig.ticker", read=_read)
