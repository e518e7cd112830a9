"""A lending library in two services: the desk lends books, the registry counts each reader's."""

# fmt: off
# ruff: noqa: I001, E704
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID
from sqlalchemy import text
from sqlalchemy.orm import Session
from eventbus.database.db import engine, sessions, transaction
from eventbus.events.catalogue import Catalogue, use
from eventbus.events.envelope import Event
from eventbus.loop import Loop
from eventbus.outbox.lag import read_outbox
from eventbus.outbox.relay import Relay
from eventbus.outbox.table import append
from eventbus.settings.base import load
from eventbus.settings.outbox import OutboxSettings
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import Bus, Service
from eventbus.worker.events import make_worker
from eventbus.worker.ticker import make_ticker


@dataclass(frozen=True, slots=True, kw_only=True)
class BookLent:
    TYPE: ClassVar[str] = "book.lent"
    reader: str
@dataclass(frozen=True, slots=True, kw_only=True)
class LoansCounted:
    TYPE: ClassVar[str] = "loans.counted"
    reader: str
    loans: int
use(Catalogue(namespace="lending", subject="loan", contracts=(BookLent, LoansCounted)))
BUS = Bus("lending")
DESK = Service(name="desk", package="lending", bus=BUS, ticks=("relay",), essential=True,
               publishes=("book.lent",), consumes=("loans.counted",))
REGISTRY = Service(name="registry", package="lending", bus=BUS, ticks=("relay",), essential=True,
                   publishes=("loans.counted",), consumes=("book.lent",))
def lend(loan: UUID, reader: str) -> None:
    with transaction(sessions(engine(load(ServiceSettings)))) as session:
        data = BookLent(reader=reader)
        append(session, Event(source="desk", subject=loan, sequence=1, data=data))
def on_book_lent(session: Session, event: Event) -> None:
    loans = session.execute(text(
        "INSERT INTO loans VALUES (:reader, 1)"
        " ON CONFLICT (reader) DO UPDATE SET loans = loans.loans + 1 RETURNING loans"
    ), {"reader": event.data.reader}).scalar_one()
    counted = LoansCounted(reader=event.data.reader, loans=loans)
    append(session, Event(source="registry", subject=event.subject, sequence=1, data=counted))

def on_loans_counted(session: Session, event: Event) -> None:
    note = text("INSERT INTO notes VALUES (:reader, :loans)")
    session.execute(note, {"reader": event.data.reader, "loans": event.data.loans})
def relay(service: Service):
    def start(settings): return [Loop("drain", Relay.from_settings(service, settings).drain)]
    return make_ticker(service, "relay", start, OutboxSettings, read=read_outbox)

desk = make_worker(DESK, {LoansCounted: on_loans_counted}, ServiceSettings)
registry = make_worker(REGISTRY, {BookLent: on_book_lent}, ServiceSettings)
desk_relay, registry_relay = relay(DESK), relay(REGISTRY)
