"""The API, killed immediately after the commit of an order, before its response."""

from typing import Any
from uuid import UUID

from flask import Flask

from order_app import app
from order_app.storage import intake
from testkit.programs.crashing import die

_write = intake.write


def _write_and_die(*arguments: Any) -> set[UUID]:
    # The statement is its own transaction, which is committed when the call returns.
    placed = _write(*arguments)
    die()
    return placed


intake.write = _write_and_die


def create_app() -> Flask:
    """Return the real application."""
    return app.create_app()
