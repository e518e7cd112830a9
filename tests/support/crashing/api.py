"""The API, killed right after the commit of an order, before the client has its answer."""

from flask import Flask
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session

from order_app import app
from order_app.models import ApiKeyRow
from tests.support.crashing import die


@event.listens_for(Session, "do_orm_execute")
def _note_the_write(execution: ORMExecuteState) -> None:
    # Not the day on which a key was used: it is noted before the order, in a commit of its own.
    if not execution.is_select and not _is_of_a_key(execution):
        execution.session.info["wrote"] = True


@event.listens_for(Session, "after_commit")
def _die_after_a_write(session: Session) -> None:
    if session.info.get("wrote"):
        die()


def _is_of_a_key(execution: ORMExecuteState) -> bool:
    mapper = execution.bind_mapper
    return mapper is not None and mapper.class_ is ApiKeyRow


def create_app() -> Flask:
    """Return the real application."""
    return app.create_app()
