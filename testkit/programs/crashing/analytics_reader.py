"""The analytics' reader, killed right after the COMMITS-th commit of what it has read."""

import os
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from analytics_worker import position, stream_reader
from analytics_worker.reader import app  # noqa: F401
from testkit.programs.crashing import die

#: Those that it survives.
_survived = iter(range(1, int(os.environ["COMMITS"])))


def _noted(write: Callable[..., None]) -> Callable[..., None]:
    def note(session: Session, *what: Any, **options: Any) -> None:
        session.info["has_read"] = True
        write(session, *what, **options)

    return note


# The effect and the position each count, so that a commit of either by itself is found.
stream_reader.project = _noted(stream_reader.project)
position.write = _noted(position.write)


@event.listens_for(Session, "after_commit")
def _die_of_the_last(session: Session) -> None:
    if session.info.pop("has_read", False) and next(_survived, None) is None:
        die()
