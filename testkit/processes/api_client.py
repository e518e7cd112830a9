"""Flask's test client with an API key in every request."""

from flask import Flask
from flask.testing import FlaskClient


def with_key(app: Flask, key: str) -> FlaskClient:
    """Return a client of an app that sends this key."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


def key_of(client: FlaskClient) -> str:
    """Return the key that a client sends."""
    return str(client.environ_base["HTTP_AUTHORIZATION"]).removeprefix("Bearer ")
