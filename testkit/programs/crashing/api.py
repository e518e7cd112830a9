"""The API, killed right after the commit of an order, before the client has its answer."""

from typing import Any
from uuid import UUID

from flask import Flask

from order_app import app
from order_app.storage import intake
from testkit.programs.crashing import die

_write = intake.write


def _write_and_die(*of_the_orders: Any) -> set[UUID]:
    # The statement is a transaction by itself: when it returns, it is committed.
    placed = _write(*of_the_orders)
    die()
    return placed


intake.write = _write_and_die


def create_app() -> Flask:
    """Return the real application."""
    return app.create_app()
