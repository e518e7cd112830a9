"""No loop and no scrape costs more because its tables are large, or were.

The cost of a step is what PostgreSQL counts meanwhile, so no statement is listed here. Programs and
tables are discovered: a table that `testkit.data.histories` does not define is an error.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from math import inf
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from common.kombu_topology import EVENTS
from deploy.local import REPOSITORY
from deploy.local.processes.programs import PROGRAMS
from eventbus.database import db
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.loop import Loop
from eventbus.messaging.event_message import task_headers
from eventbus.settings.base import load
from eventbus.settings.service import ServiceSettings
from eventbus.worker.ticker import Ticker
from testkit.data.histories import Histories, UnknownTable
from testkit.data.meter import Meter
from testkit.data.outboxes import CREATED, event
from testkit.mail.mailbox import Mailbox
from testkit.network.proxy import Proxy
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

DatabaseOf = Callable[[str], TestDatabase]
Step = Callable[[], object]

#: Finished rows of each table, and deleted ones.
KEPT, GONE = 14_000, 6_000

#: Rows that wait after an outage, and rows that arrive between two steps otherwise.
MANY, FEW = 6_000, 2

#: Rows that arrive for a relay of a part, so that some of them belong to its part: a relay that has
#: found no event yet starts each query at the first entry.
FEW_FOR_A_PART = 50

#: Pages, rows and index entries of one table that a step may read: those of a batch and of the rows
#: that it is compared with. This is less than a backlog.
MOST = 4_000

#: Steps that always start at the first entry of an index, and so scan deleted rows until a vacuum:
#: the first query of a pass of the retention, once a minute.
FROM_THE_FIRST = {"retention"}

#: Seconds for a step that runs until its deadline.
STEP = 1.0


def _module(command: str) -> str | None:
    words = command.split()
    return words[words.index("-A") + 1] if "-A" in words else None


def _tickers() -> dict[str, Ticker]:
    modules = {program.name: _module(program.command) for program in PROGRAMS}
    apps = {name: import_module(module).app for name, module in modules.items() if module}
    return {name: app for name, app in apps.items() if isinstance(app, Ticker)}


TICKERS = _tickers()

#: Programs, and settings with which they run other statements, by the name of the case.
CASES: dict[str, tuple[str, dict[str, int]]] = {
    **{name: (name, {}) for name in TICKERS},
    "order-relay of a part": ("order-relay", {"relay_part": 1, "relay_parts": 4}),
}


def test_every_ticker_is_among_the_programs() -> None:
    sources = [p for p in REPOSITORY.glob("*/*.py") if "= make_ticker(" in p.read_text()]

    modules = {_module(program.command) for program in PROGRAMS if program.name in TICKERS}
    assert modules == {f"{path.parent.name}.{path.stem}" for path in sources}


def test_a_table_without_a_history_is_an_error(database_of: DatabaseOf) -> None:
    engine = create_engine(database_of("order").url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE novelties (id int)")

    with pytest.raises(UnknownTable, match="order's novelties"):
        Histories(engine, "order", "order.created")


@pytest.mark.parametrize(("program", "special"), CASES.values(), ids=CASES)
def test_a_step_is_bounded_with_a_history_and_in_an_outage(
    program: str,
    special: dict[str, int],
    database_of: DatabaseOf,
    servers: Infrastructure,
    broker: Vhost,
    proxy: Proxy,
    mailbox: Mailbox,
    steady: None,
    small: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given many finished rows, and deleted rows that an open transaction retains
    app = TICKERS[program]
    service = app.service
    assert service
    database = database_of(service.name)
    engine = create_engine(database.url, poolclass=NullPool)
    histories = Histories(engine, service.name, (service.publishes or ("order.created",))[-1])
    settings = {
        **database.settings,
        "broker_vhost": broker.name,
        "broker_port": proxy.port,
        "broker_user": service.name,
        "broker_password": (servers.secrets_dir / f"{service.name}.broker").read_text().strip(),
        "broker_ca_file": broker.ca_file,
        "mail_from": "Shop <orders@shop.example>",
        "smtp_port": mailbox.port,
        **special,
    }
    with engine.connect() as observer:
        observer.exec_driver_sql("SELECT pg_current_xact_id()")
        histories.fill(kept=KEPT, gone=GONE)

        with Meter.over(engine) as meter, running(app, settings) as steps:
            # When the process works, first normally, then without broker and mail server
            few = FEW_FOR_A_PART if special else FEW
            _add_rows(histories, broker, few)
            _costs(meter, steps)
            _add_rows(histories, broker, few)
            usual = _costs(meter, steps)
            assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
            proxy.stop()
            mailbox.stop()
            histories.wait(MANY)
            _costs(meter, steps)
            outage = _costs(meter, steps)
            scans = {t: meter.cost(partial(_scan, engine, t))[t] for t in histories.tables}

    # Then each step reads something, but far less than a scan of a table
    assert {step: excess for step, cost in usual.items() if (excess := _excess(step, cost))} == {}
    assert {step: excess for step, cost in outage.items() if (excess := _excess(step, cost))} == {}
    assert [step for step, cost in usual.items() if not cost] == []
    assert min(scans.values()) > max(map(_limit, FROM_THE_FIRST))


@pytest.fixture
def steady(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every step do its usual work only: no pauses and no occasional queries.

    Occasionally a relay and a mailer scan from the first entry, which takes a share of their time.
    """
    monkeypatch.setattr("eventbus.outbox.claim_start._LOOK_INTERVAL", inf)
    monkeypatch.setattr("notification_worker.mail_queue.FULL_SCAN", inf)
    monkeypatch.setattr("notification_worker.outage.LONGEST_PAUSE", 0.3)
    monkeypatch.setattr("order_app.sweep.RETURN", -inf)
    # However long the other steps take.
    monkeypatch.setattr("order_app.sweep.ABSENCE", inf)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limits of queries, because fewer rows then show whether they are bounded."""
    monkeypatch.setattr("eventbus.outbox.claim_start._BACK", 100)
    monkeypatch.setattr("notification_worker.mail_queue.OVERLAP", 100)
    monkeypatch.setattr("eventbus.database.bounded_scan.MAX_ROWS", 1_000)
    monkeypatch.setattr("notification_worker.metrics.COUNT_LIMIT", 1_000)


@contextmanager
def running(app: Ticker, settings: dict[str, Any]) -> Iterator[dict[str, Step]]:
    """Return the steps of a process's loops by name; the caller runs them."""
    loaded = load(app._settings, **settings)
    assert isinstance(loaded, ServiceSettings)
    loops = app._make_loops(loaded)
    sessions = db.sessions(db.engine(loaded))

    def scrape() -> None:
        with transaction(sessions) as session:
            assert app._read
            assert list(app._read(session))

    try:
        yield {loop.name: partial(_turn, loop) for loop in loops} | {"scrape": scrape}
    finally:
        for loop in loops:
            _close(loop)


def _turn(loop: Loop) -> None:
    loop._step(time.monotonic() + STEP)


def _close(loop: Loop) -> None:
    owner = getattr(loop._step, "__self__", None)
    for resource in (owner, getattr(owner, "_publisher", None)):
        if close := getattr(resource, "close", None):
            close()


def _costs(meter: Meter, steps: dict[str, Step]) -> dict[str, Counter[str]]:
    return {name: meter.cost(step) for name, step in steps.items()}


def _add_rows(histories: Histories, broker: Vhost, count: int) -> None:
    histories.wait(count)
    for _ in range(count):
        created = event(CREATED)
        broker.publish(
            codec.wrap(codec.encode(created)),
            exchange=EVENTS.name,
            routing_key=created.type,
            headers=task_headers(str(created.id), created.type, None),
            message_id=str(created.id),
            timestamp=int(created.time.timestamp()),
        )


def _scan(engine: Engine, table: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT count(*) FROM {table}")


def _excess(step: str, cost: Counter[str]) -> dict[str, int]:
    return {table: read for table, read in cost.items() if read > _limit(step)}


def _limit(step: str) -> int:
    return MOST + GONE * (step in FROM_THE_FIRST)
