"""The notification worker, which parks in sequence and fails while the file `$BUG` exists.

If the file `$CRASH` exists, the worker is killed once, at the point of parking that it names.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from common.events import OrderCreatedV2
from common.kombu_topology import NOTIFICATION
from eventbus.errors import Permanent
from eventbus.events.envelope import Event
from eventbus.messaging.copy_publisher import CopyPublisher
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import PARKED
from eventbus.worker.events import make_worker
from eventbus.worker.settlement import Settlement
from notification_worker import handlers
from testkit.programs.crashing import die


def on_order_created(session: Session, event: Event) -> None:
    """Handle the event as the notification service does, unless there is a bug."""
    if Path(os.environ["BUG"]).exists():
        raise Permanent("a mail without a template")
    handlers.on_events(session, [event])


def _crashing(method: Callable[..., Any], point: str, key: Callable[..., str]) -> Any:
    def call(self: Any, *arguments: Any) -> Any:
        crash = Path(os.environ.get("CRASH", "none"))
        if key(*arguments) == PARKED and crash.exists() and crash.read_text() == point:
            crash.unlink()
            die()
        return method(self, *arguments)

    return call


CopyPublisher.publish = _crashing(  # type: ignore[method-assign]
    CopyPublisher.publish, "recorded, not published", lambda copy: copy.routing_key
)
Settlement._done = _crashing(  # type: ignore[method-assign]
    Settlement._done, "published, not acknowledged", lambda *_: PARKED
)

app = make_worker(
    replace(NOTIFICATION, parks_in_sequence=True),
    {**handlers.HANDLERS, OrderCreatedV2: on_order_created},
    ServiceSettings,
    config="celeryconfig.worker",
)
