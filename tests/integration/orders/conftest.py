"""The database behind the order API."""

from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, create_engine

from eventbus.database import db
from eventbus.database.db import Sessions
from order_app.settings import ApiSettings
from order_app.storage import intake, models
from testkit.servers.databases import TestDatabase


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
