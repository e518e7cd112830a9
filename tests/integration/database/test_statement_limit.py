"""A statement to which the database does not respond ends, and its connection with it."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from common.kombu_topology import ORDER
from eventbus.database import db, outages, statement_limit
from eventbus.database.metrics import Database
from eventbus.database.statement_limit import StatementLimit
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry.metrics import gauge
from eventbus.worker.app import ServiceApp
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.servers.databases import TestDatabase

#: Seconds: a statement takes milliseconds, unless it never ends.
LIMIT = 3


@pytest.fixture
def database(database_of: Callable[[str], TestDatabase]) -> TestDatabase:
    return database_of("order")


@pytest.fixture
def proxy(database: TestDatabase) -> Iterator[Proxy]:
    """A proxy in front of the database."""
    port = database.url.port
    assert port
    proxy = Proxy(port)
    yield proxy
    proxy.stop()


@pytest.fixture
def engine(database: TestDatabase, proxy: Proxy) -> Iterator[Engine]:
    """An engine with the limit, whose connections pass through the proxy."""
    settings = database.service_settings.model_copy(update={"database_port": proxy.port})
    options = db.engine_options(settings, pool_size=2, is_limited=True)
    connect_args = options["connect_args"]
    assert isinstance(connect_args, dict)
    connect_args["connection_factory"] = StatementLimit(LIMIT).connect
    engine = create_engine(db.url(settings), **options)
    yield engine
    engine.dispose()


def query(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


def commit(connection: Connection) -> None:
    connection.commit()


def write_many(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT %s", [(1,), (2,)])


@pytest.mark.parametrize("use", [query, commit, write_many])
def test_a_statement_without_a_response_is_an_outage(
    engine: Engine, proxy: Proxy, caplog: pytest.LogCaptureFixture, use: Callable[..., None]
) -> None:
    # Given a connection with an open transaction
    with engine.connect() as connection:
        query(connection)

        # When the database no longer responds
        proxy.hold_responses()

        # Then the statement ends, and the failure is an outage
        with pytest.raises(OperationalError) as caught:
            proxy.run(lambda: use(connection))
        assert outages.reason(caught.value) == "the database cannot be reached"
        eventually(lambda: _assert_logged(caplog))
    assert statement_limit._watch._deadlines == {}

    # And when the database responds again, so does a new connection
    proxy.release_responses()
    with engine.connect() as connection:
        query(connection)


def test_a_rollback_without_a_response_ends(engine: Engine, proxy: Proxy) -> None:
    # When the database stops responding during a transaction that is rolled back
    with engine.connect() as connection:
        query(connection)
        proxy.hold_responses()
        with pytest.raises(OperationalError):
            proxy.run(connection.rollback)

    # Then the pool is not blocked
    proxy.release_responses()
    with engine.connect() as connection:
        query(connection)


def test_a_statement_that_has_ended_has_no_limit(engine: Engine) -> None:
    with engine.connect() as connection:
        query(connection)
        connection.commit()
        with pytest.raises(Exception, match="division by zero"):
            connection.execute(text("SELECT 1 / 0"))

        assert statement_limit._watch._deadlines == {}


def test_a_scrape_ends_although_the_database_does_not_respond(
    database: TestDatabase, proxy: Proxy
) -> None:
    # Given the metrics page of a process, whose database is read at each scrape
    app = ServiceApp(
        "order-relay",
        settings=ServiceSettings,
        config="eventbus.celeryconfig.ticker",
        service=ORDER,
        read=lambda session: [gauge("rows", "", session.scalar(text("SELECT 1")) or 0)],
        set_as_current=False,
    )
    settings = database.service_settings.model_copy(update={"database_port": proxy.port})
    vars(app)["settings"] = settings
    (metrics,) = (c for c in app.collectors() if isinstance(c, Database))
    assert [metric.samples[0].value for metric in metrics.collect()] == [1, 1]

    # When the database no longer responds
    proxy.hold_responses()

    # Then scrapes end, on the connection and on a new one, and report this
    for _ in range(2):
        (is_up,) = proxy.run(lambda: list(metrics.collect()))
        assert is_up.samples[0].value == 0


def _assert_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert "statement without a response ended" in caplog.text
