"""Fixtures for tests of full queues and of catch-up."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from common.kombu_topology import FRAUD
from eventbus.catch_up import overflow
from eventbus.catch_up.catch_up import CatchUp
from eventbus.database import db
from testkit.data.catching_up import ROOM
from testkit.data.dropping import Subscriber, limit
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def fraud(
    servers: Infrastructure,
    broker: Vhost,
    database_of: Callable[[str], TestDatabase],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Subscriber]:
    """The fraud check with room for ten messages, whose process reads without delay."""
    monkeypatch.setattr(overflow, "SETTLED", timedelta())
    database = database_of("fraud")
    engine = db.engine(database.service_settings)
    limit(broker, FRAUD, ROOM)
    yield Subscriber.of(FRAUD, servers, broker, database, db.sessions(engine))
    engine.dispose()


@pytest.fixture
def process(fraud: Subscriber) -> Iterator[CatchUp]:
    """The catch-up process, for a test to run step by step."""
    process = fraud.catch_up()
    yield process
    process.close()
