"""Fixtures of all tests: each worker has its own servers, each test its own databases and vhost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from console.settings import TopologySettings
from eventbus.database import db
from eventbus.database.db import Sessions
from testkit.mail.mailbox import Mailbox
from testkit.processes.api_client import with_key
from testkit.processes.orderctl import environment_of
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases, TestDatabase
from testkit.servers.declaration import TIERS, declare
from testkit.servers.infrastructure import Infrastructure, infrastructure
from testkit.servers.vhosts import Vhost, fresh_vhost
from testkit.servers.workers import clear, number_of_workers, own_state
from tests.support.together import Together, rank

Environment = dict[str, str]

# The duration of an example depends on the load of the machine, not on the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that separate parallel runs and set the size of a run."""
    parser.addoption(
        "--state",
        type=Path,
        default=Path(__file__).parents[1] / ".run-test",
        help="directory of the private brokers and databases of this run",
    )
    parser.addoption(
        "--mixture",
        type=int,
        default=2_000,
        help="messages of the test that mixes good, bad and broken ones; 20000 is the long run",
    )
    parser.addoption(
        "--hostile",
        type=int,
        default=2_000,
        help="messages of the test that sends hostile ones; 1000000 is the long run",
    )
    parser.addoption("--hostile-seed", type=int, default=1, help="seed of the hostile messages")
    parser.addoption("--seed", type=int, default=1, help="seed of the sample of the crash matrix")
    parser.addoption(
        "--cells", default="3", help="cells of the crash matrix; `all` is the long run"
    )
    parser.addoption(
        "--leak-orders",
        type=int,
        default=1_000,
        help="orders of the test for leaks; 10000 finds leaks that are ten times smaller",
    )
    parser.addoption(
        "--infrastructure",
        choices=("processes", "containers"),
        default="processes",
        help="form of the private broker and database; containers need Docker",
    )


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`."""
    return number_of_workers()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Run all tests that share processes in one worker, so that the processes are started once."""
    return Together(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, and each other test in the random order."""
    items.sort(key=lambda item: rank(item.nodeid))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove the remains of a killed run before any worker starts."""
    if not hasattr(session.config, "workerinput"):
        clear(session.config.getoption("state"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the state directory if it is empty."""
    state: Path = session.config.getoption("state")
    if not hasattr(session.config, "workerinput") and state.is_dir() and not any(state.iterdir()):
        state.rmdir()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Infrastructure]:
    """The private broker and database server of this worker."""
    state = own_state(pytestconfig.getoption("state"))
    if pytestconfig.getoption("infrastructure") == "containers":
        # Imported here: only this branch needs a library for Docker.
        from testkit.servers.containers import containers

        with containers(state) as running:
            yield running
    else:
        with infrastructure(state) as running:
            yield running


@pytest.fixture(scope="session")
def databases(servers: Infrastructure) -> Databases:
    """Migrated templates of every service's database."""
    return Databases.prepare(servers)


@pytest.fixture
def database_of(databases: Databases) -> Iterator[Callable[[str], TestDatabase]]:
    """A fresh migrated database of a service, by the service's name."""
    with databases.fresh() as create:
        yield create


@pytest.fixture
def order_database(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """Sessions on a fresh database of the order service."""
    yield from _sessions(database_of("order"))


@pytest.fixture
def inventory_database(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """Sessions on a fresh database of the inventory."""
    yield from _sessions(database_of("inventory"))


@pytest.fixture
def notification_database(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """Sessions on a fresh database of the notification service."""
    yield from _sessions(database_of("notification"))


@pytest.fixture
def analytics_database(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """Sessions on a fresh database of the analytics service."""
    yield from _sessions(database_of("analytics"))


@pytest.fixture
def api_database(database_of: Callable[[str], TestDatabase]) -> TestDatabase:
    """The fresh database of the order API."""
    return database_of("order")


@pytest.fixture
def order_api(api_database: TestDatabase) -> Iterator[FlaskClient]:
    """A client of the order API over a fresh database, with a key for everything."""
    from order_app.app import create_app
    from order_app.settings import ApiSettings
    from order_app.storage import api_keys
    from order_app.storage.models import db as models

    app = create_app(ApiSettings(**api_database.settings))
    with app.app_context(), models.session.begin():
        key = api_keys.create(models.session(), "tests", api_keys.Scope)
    yield with_key(app, key)
    with app.app_context():
        for engine in models.engines.values():
            engine.dispose()


@pytest.fixture
def vhost(servers: Infrastructure) -> Iterator[Vhost]:
    """An empty vhost for this test."""
    with fresh_vhost(servers) as fresh:
        yield fresh


@pytest.fixture
def broker(servers: Infrastructure, vhost: Vhost) -> Vhost:
    """A vhost for this test, with the topology applied, but with few retry tiers."""
    settings = TopologySettings(
        **vhost.administrator,
        secrets_dir=servers.secrets_dir,
        retry_tiers=TIERS,
    )
    declare(settings)
    return vhost


@pytest.fixture
def operator_env(
    servers: Infrastructure, vhost: Vhost, databases: Databases
) -> Iterator[Environment]:
    """The environment of `orderctl` for an empty vhost, and databases that do not exist yet."""
    suffix = f"_{uuid4().hex[:8]}"
    yield environment_of(servers, vhost, suffix, TIERS)
    databases.drop_all(suffix)


@pytest.fixture
def migrated_env(operator_env: Environment, databases: Databases) -> Environment:
    """The environment of `orderctl` for an empty vhost, and migrated databases."""
    databases.create_all(operator_env["DATABASE_SUFFIX"])
    return operator_env


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """An SMTP server that keeps the received emails."""
    with Mailbox.running() as running:
        yield running


@pytest.fixture(scope="module")
def shared_stack(
    servers: Infrastructure, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A `stack` that the tests of one module share, each of which reads only its own orders.

    Not for tests that stop a process or the broker.
    """
    with (
        databases.fresh() as database_of,
        fresh_vhost(servers) as vhost,
        Mailbox.running() as mailbox,
        Stack.on(servers, database_of, vhost, mailbox, tmp_path_factory.mktemp("shared")) as ready,
    ):
        yield ready


@pytest.fixture
def stack(
    servers: Infrastructure,
    database_of: Callable[[str], TestDatabase],
    vhost: Vhost,
    mailbox: Mailbox,
    tmp_path: Path,
) -> Iterator[Stack]:
    """All processes, not started, with their own vhost and databases."""
    with Stack.on(servers, database_of, vhost, mailbox, tmp_path) as ready:
        yield ready


def _sessions(database: TestDatabase) -> Iterator[Sessions]:
    engine = db.engine(database.service_settings, pool_size=20)
    yield db.sessions(engine)
    engine.dispose()
