"""The API."""

from flask import Flask

from order_app import app
from testkit.programs.matrix import arm

arm()


def create_app() -> Flask:
    """Return the real application."""
    return app.create_app()
