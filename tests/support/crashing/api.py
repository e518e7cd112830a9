"""The API, killed right after the commit of an order, before the client has its answer."""

from typing import Any

from flask import Flask
from sqlalchemy import event
from sqlalchemy.orm import Session

from order_app import app, intake
from tests.support.crashing import die

_place = intake.place


def _note_the_write(session: Session, *of_the_order: Any) -> bool:
    session.info["wrote"] = True
    return _place(session, *of_the_order)


intake.place = _note_the_write


@event.listens_for(Session, "after_commit")
def _die_after_a_write(session: Session) -> None:
    if session.info.get("wrote"):
        die()


def create_app() -> Flask:
    """Return the real application."""
    return app.create_app()
