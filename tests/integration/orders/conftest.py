"""The database behind the order API, and the one that `orderctl` changes."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine

from console.orderctl import main
from console.settings import DatabaseSettings, load_operator
from eventbus.database import db
from eventbus.database.db import Sessions
from order_app.settings import ApiSettings
from order_app.storage import intake, models
from testkit.servers.databases import TestDatabase, service_url


@pytest.fixture
def sessions(order_api: FlaskClient) -> Iterator[Sessions]:
    """Sessions on the database that the API uses."""
    with order_api.application.app_context():
        yield db.sessions(models.db.engine)


@pytest.fixture
def engine(database_of: Callable[[str], TestDatabase]) -> Iterator[Engine]:
    """An engine with the options of the order intake."""
    settings = ApiSettings(**database_of("order").settings, api_pool_size=20)
    engine = create_engine(db.url(settings), **intake.engine_options(settings))
    yield engine
    engine.dispose()


@pytest.fixture
def orderctl(migrated_env: dict[str, str]) -> Callable[..., Result]:
    """`orderctl` on migrated databases."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env=migrated_env)

    return run


@pytest.fixture
def orders(
    orderctl: Callable[..., Result],
    operator_env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sessions]:
    """Sessions on the database that `orderctl` changes."""
    for name, value in operator_env.items():
        monkeypatch.setenv(name, value)
    engine = create_engine(service_url(load_operator(DatabaseSettings), "order"))
    yield db.sessions(engine)
    engine.dispose()
