"""The index of large parking lots in this process, on one thread that starts when it is needed."""

import logging
import threading
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from common.kombu_topology import CONSOLE
from console.broker import state
from console.broker.management import Management
from console.databases.service_database import sessions
from console.parking.index import renewal
from console.settings import ConsoleSettings
from eventbus.database.db import Sessions
from eventbus.errors import ExpectedError
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Seconds between two checks of the broker's counts, which are up to five seconds old.
INTERVAL = 5.0


@dataclass(eq=False)
class Indexing:
    """The renewals of the index, which the first scrape or a page of a large parking lot starts."""

    settings: ConsoleSettings
    _problem: str | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Start the renewals, unless they have started."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="parked-index", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        # The thread ends with the process.
        with sessions(self.settings, CONSOLE) as own:
            while True:
                self._renew(own)
                time.sleep(INTERVAL)

    def _renew(self, own: Sessions) -> None:
        problem = None
        try:
            with Management(self.settings) as broker:
                totals = state.totals(broker)
            renewal.renew(self.settings, own, totals)
        except (ExpectedError, DBAPIError) as error:
            problem = described(error)
        except Exception as error:
            # An exception would end the thread, and the index would no longer be renewed.
            log.exception("index of parked messages failed")
            problem = described(error)
        # One line is logged at the first failure and one at the recovery, rather than one for each
        # check.
        if bool(problem) != bool(self._problem):
            if problem:
                log.warning("index of parked messages interrupted", extra={"reason": problem})
            else:
                log.info("index of parked messages resumed")
        self._problem = problem
