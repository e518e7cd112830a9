"""The sweep: orders that nobody decided about in time are cancelled."""

import logging
import time
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError

from common.db import Sessions, transaction
from order_app.service import sweep_deadlines

log = logging.getLogger(__name__)

#: Orders cancelled in one transaction: few enough to hold their locks briefly.
BATCH = 100


def sweep(sessions: Sessions, until: float) -> int:
    """Cancel the overdue orders, in batches, until `time.monotonic()` is `until`; return how many.

    A database that fails is logged: the next tick tries again.
    """
    swept, last = 0, BATCH
    try:
        while last == BATCH and time.monotonic() < until:
            with transaction(sessions) as session:
                last = sweep_deadlines(session, datetime.now(UTC), BATCH)
            swept += last
    except DBAPIError as error:
        log.error("the database failed the sweep", extra={"reason": str(error.orig).strip()})
    if swept:
        log.info("overdue orders are cancelled", extra={"orders": swept})
    return swept
