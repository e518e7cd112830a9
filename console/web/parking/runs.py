"""The runs of redrive plans in this process, a thread each.

The lease of a parking lot permits one run for each service, in all processes together.
"""

import logging
import threading
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from console.parking.redrive import run as runs
from console.settings import ParkingSettings
from console.web.queries import problem
from eventbus.errors import ExpectedError

log = logging.getLogger(__name__)

#: Problems of ended runs that are kept.
_KEPT = 100


@dataclass(frozen=True)
class Runs:
    """The runs of this process. A plan whose run ended with its process can be run again."""

    settings: ParkingSettings
    _running: dict[int, threading.Thread] = field(default_factory=dict)
    _problems: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, plan_id: int, *, run_by: str, rate: float, max_failing: float) -> bool:
        """Start the run of a plan; return False if it runs in this process already."""

        def run() -> None:
            try:
                runs.run(self.settings, plan_id, run_by=run_by, rate=rate, max_failing=max_failing)
            except (ExpectedError, DBAPIError) as error:
                self._problems[plan_id] = problem(error)
                log.info("run ended", extra={"plan": plan_id, "reason": problem(error)})
            except Exception as error:
                log.exception("run failed", extra={"plan": plan_id})
                self._problems[plan_id] = problem(error)
            finally:
                with self._lock:
                    del self._running[plan_id]

        with self._lock:
            if plan_id in self._running:
                return False
            self._problems.pop(plan_id, None)
            for old in list(self._problems)[:-_KEPT]:
                del self._problems[old]
            thread = threading.Thread(target=run, name=f"plan-{plan_id}", daemon=True)
            self._running[plan_id] = thread
            thread.start()
        return True

    def is_running(self, plan_id: int) -> bool:
        """Return whether a plan runs in this process."""
        return plan_id in self._running

    def problem(self, plan_id: int) -> str:
        """Return why the last run in this process ended early, or an empty text."""
        return self._problems.get(plan_id, "")
