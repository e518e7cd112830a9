"""The API, killed right after the commit of an order, before the client has its answer."""

from typing import Any

from flask import Flask

from order_app import app, intake
from tests.support.crashing import die

_place = intake.place


def _place_and_die(*of_the_order: Any) -> bool:
    # The statement is a transaction by itself: when it returns, it is committed.
    placed = _place(*of_the_order)
    die()
    return placed


intake.place = _place_and_die


def create_app() -> Flask:
    """Return the real application."""
    return app.create_app()
