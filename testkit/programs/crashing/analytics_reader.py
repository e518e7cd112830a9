"""The analytics reader, killed immediately after its COMMITS-th commit of read events."""

import os
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from analytics_worker import position, stream_reader
from analytics_worker.reader import app  # noqa: F401
from testkit.programs.crashing import die

#: The commits that the reader survives.
_survived = iter(range(1, int(os.environ["COMMITS"])))


def _marking(write: Callable[..., None]) -> Callable[..., None]:
    def mark(session: Session, *arguments: Any, **options: Any) -> None:
        session.info["has_read"] = True
        write(session, *arguments, **options)

    return mark


# The effect and the position are both marked, so that a separate commit of either counts.
stream_reader.project = _marking(stream_reader.project)
position.write = _marking(position.write)


@event.listens_for(Session, "after_commit")
def _die_after_the_last(session: Session) -> None:
    if session.info.pop("has_read", False) and next(_survived, None) is None:
        die()
