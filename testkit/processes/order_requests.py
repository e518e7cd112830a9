"""Requests to the order API, and checks of the form of its responses."""

import json
from typing import Any
from uuid import UUID

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from order_app.app import create_app
from order_app.settings import ApiSettings
from order_app.storage import models
from testkit.processes.api_client import key_of, with_key

#: The id of an order that does not exist, and its path.
UNKNOWN_ID = UUID("3b1e6a2c-58d4-4f0e-8b7a-c92d10f4e6a5")
UNKNOWN_ORDER = f"/orders/{UNKNOWN_ID}"


def a_line(**changes: Any) -> dict[str, Any]:
    """Return a valid line, with these changes."""
    return {"sku": "TEA", "quantity": 2, "unit_price": 1250} | changes


def an_order(**changes: Any) -> dict[str, Any]:
    """Return the body of a valid order, with these changes."""
    return {
        "customer": {"email": "ann@example.com"},
        "currency": "EUR",
        "lines": [a_line()],
    } | changes


def place(api: FlaskClient, body: Any = None, **headers: str) -> TestResponse:
    """Post an order, by default a valid order. An underscore in a header's name is a hyphen."""
    hyphenated = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.post("/orders", json=an_order() if body is None else body, headers=hyphenated)


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """Return the problem document of a response, after a check of its form."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(response.data)
    assert set(document) == {"type", "title", "status", "detail", "errors"}
    assert document["status"] == status
    return document


def wrong_fields(response: TestResponse, status: int = 422) -> set[str]:
    """Return the fields in the errors of a problem document."""
    return {error["field"] for error in problem(response, status)["errors"]}


def another_api(api: FlaskClient, **changes: Any) -> FlaskClient:
    """Return a client of a second instance of the same API with other settings."""
    settings: ApiSettings = api.application.extensions["order_settings"]
    return with_key(create_app(settings.model_copy(update=changes)), key_of(api))


def close(api: FlaskClient) -> None:
    """Close the database connections of an API."""
    with api.application.app_context():
        for engine in models.db.engines.values():
            engine.dispose()
