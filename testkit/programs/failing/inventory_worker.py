"""The inventory's worker, whose handler fails as the customer's email address specifies.

The time of each attempt is appended to the file `$ATTEMPTS/<order id>`.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from common.events import OrderCreatedV2
from common.kombu_topology import INVENTORY
from eventbus.errors import Permanent, Transient
from eventbus.events.envelope import Event
from eventbus.settings.service import ServiceSettings
from eventbus.worker.events import make_worker
from inventory_worker import handlers


def on_order_created(session: Session, event: Event) -> None:
    """Fail as specified, or handle the event as the inventory does."""
    attempt = _record(event)
    email = cast(OrderCreatedV2, event.data).customer.email
    # The part after a plus is ignored.
    match email.partition("@")[0].partition("+")[0]:
        case "always":
            raise Transient("the shelf is locked")
        case "twice" if attempt <= 2:
            raise Transient("the shelf is locked")
        case "bug":
            raise ZeroDivisionError("no shelf")
        case "exit":
            sys.exit("no shelf in sight")
        case "permanent":
            raise Permanent("there is no shelf")
        case "quote":
            raise ValueError(email)
        case "row":
            session.execute(text("CREATE TEMP TABLE customers (email text UNIQUE)"))
            for _ in range(2):
                session.execute(text("INSERT INTO customers VALUES (:email)"), {"email": email})
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill-all":
            os.killpg(0, signal.SIGKILL)
    handlers.on_orders(session, [event])


def _record(event: Event) -> int:
    path = Path(os.environ["ATTEMPTS"]) / str(event.subject)
    with path.open("a") as attempts:
        attempts.write(f"{time.time()}\n")
    return len(path.read_text().splitlines())


app = make_worker(
    INVENTORY,
    {**handlers.HANDLERS, OrderCreatedV2: on_order_created},
    ServiceSettings,
    config="celeryconfig.worker",
)
