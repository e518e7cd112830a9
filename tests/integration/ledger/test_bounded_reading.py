"""The ledger reads large tables in small pages, in bounded memory, and writes nothing."""

import tracemalloc
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import InternalError
from sqlalchemy.pool import NullPool

from common.kombu_topology import INVENTORY, ORDER
from console.databases.service_database import reading
from console.ledger.account import OutboxEvent, Place
from console.ledger.books import PAGE, Books
from eventbus.database.db import engine_of
from testkit.data.accounted import AccountedSystem, brief, places
from testkit.data.meter import Meter

#: Events of a large outbox.
EVENTS = 40_000

#: Bytes that a reconciliation of a large outbox may need: some pages.
MEMORY = 8_000_000

_FILL = """
INSERT INTO outbox (event_id, type, subject, event, sent_at)
SELECT uuid_in(overlay(md5(n::text) placing '7' from 13)::cstring), 'order.created',
    gen_random_uuid(), '{}', now()
FROM generate_series(1, :count) AS n
"""
_COPY = """
INSERT INTO inbox (event_id, type, source, subject, attempts, occurred_at)
SELECT uuid_in(overlay(md5(n::text) placing '7' from 13)::cstring), 'order.created', 'order',
    gen_random_uuid(), 1, now()
FROM generate_series(1, :count) AS n
"""


@pytest.mark.timeout(600)
def test_the_memory_does_not_grow_with_the_outbox(system: AccountedSystem) -> None:
    # Given a large outbox, all of which is handled
    system.run("order", _FILL, count=EVENTS)
    for service in ("inventory", "notification", "fraud", "analytics"):
        system.run(service, _COPY, count=EVENTS)

    # When the ledger is read
    tracemalloc.start()
    try:
        accounts = system.accounts(brief())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # Then all events are counted in the memory of some pages
    assert places(accounts[INVENTORY.name]) == {Place.HANDLED: EVENTS + 1}
    assert peak < MEMORY


def test_a_page_reads_by_the_index(system: AccountedSystem) -> None:
    # Given tables that the planner believes to be empty
    system.run("order", _FILL, count=50_000)
    engine = create_engine(engine_of(system.databases["order"]).url, poolclass=NullPool)
    events: list[OutboxEvent] = []

    # When one page is read in the middle
    with Meter.over(engine) as meter, Books.opened(system.settings) as books:
        cost = meter.cost(lambda: events.extend(books.page(ORDER, UUID(int=1 << 127))))

    # Then it costs about as many rows as it has
    assert len(events) == PAGE
    assert cost["outbox"] < 4 * PAGE


def test_the_transactions_of_the_ledger_write_nothing(system: AccountedSystem) -> None:
    with (
        pytest.raises(InternalError, match="read-only transaction"),
        reading(system.databases["order"]) as session,
    ):
        session.execute(text("DELETE FROM outbox"))
