"""The fraud check's worker. An order of a certain customer kills it and all its processes."""

import os
import signal
from collections.abc import Iterable

from sqlalchemy.orm import Session

from eventbus.consumer import receive
from eventbus.consumer.receive import Handlers
from eventbus.events.envelope import Event
from fraud_worker.worker import app  # noqa: F401
from testkit.programs.poisoned import POISON

_handle = receive._handle


def _handle_or_die(session: Session, handlers: Handlers, events: Iterable[Event]) -> None:
    received = list(events)
    if any(event.data.customer.email == POISON for event in received):
        os.killpg(0, signal.SIGKILL)
    _handle(session, handlers, received)


receive._handle = _handle_or_die
