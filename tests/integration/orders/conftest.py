"""The database behind the order API."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from eventbus.database import db
from eventbus.database.db import Sessions
from order_app.storage import models


@pytest.fixture
def sessions(order_api: FlaskClient) -> Iterator[Sessions]:
    """Sessions on the database that the API uses."""
    with order_api.application.app_context():
        yield db.sessions(models.db.engine)
