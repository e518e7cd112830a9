"""The process that reads the stream into the projections, and deletes old rows."""

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from analytics_worker.declaration import ANALYTICS
from analytics_worker.metrics import read_projections
from analytics_worker.retention import RULES, ReaderSettings, retention
from analytics_worker.stream_reader import Reader
from eventbus.consumer.retention import read_ages
from eventbus.database import db
from eventbus.loop import Loop
from eventbus.worker.ticker import make_ticker

#: PostgreSQL parameters of the reader's sessions. A reader that hangs, or whose machine has
#: disappeared, must not hold the lock indefinitely.
SESSION = MappingProxyType({**db.BY_KEY, "idle_session_timeout": "60s"})


def start(settings: ReaderSettings) -> Sequence[Loop]:
    """Return the loops of the process."""
    sessions = db.sessions(db.engine(settings, session=SESSION))
    reader = Reader.from_settings(sessions, settings)
    return Loop("read", reader.read), retention(settings).loop()


def _read(session: Session) -> Iterator[Metric]:
    yield from read_projections(session)
    yield from read_ages(session, RULES)


app = make_ticker(
    ANALYTICS, "reader", start, ReaderSettings, config="celeryconfig.ticker", read=_read
)
