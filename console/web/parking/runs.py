"""The preparations and runs of redrive plans in this process, each on its own thread.

The lease of a parking lot permits one preparation or run for each service, in all processes.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from console.errors import ActionError
from console.parking.criteria import Criteria
from console.parking.redrive import run as runs
from console.parking.redrive.preparation import prepare
from console.settings import ParkingSettings
from console.web.queries import PATIENCE, problem
from eventbus.errors import ExpectedError
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: Maximum number of problems of ended runs that are kept.
_KEPT = 100


@dataclass(frozen=True)
class Runs:
    """The runs of this process. If a run ended with its process, the plan can be run again."""

    settings: ParkingSettings
    _running: dict[int, threading.Thread] = field(default_factory=dict)
    _problems: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, service: Service, criteria: Criteria, *, created_by: str) -> int:
        """Start the preparation of a plan, and return the plan's number once it is recorded.

        Its progress and its problem are stored with the plan. Raises the error of a plan that was
        not recorded.
        """
        recorded: Future[int] = Future()

        def work() -> None:
            try:
                prepare(
                    self.settings,
                    service,
                    criteria,
                    created_by=created_by,
                    recorded=recorded.set_result,
                )
            except Exception as error:
                if recorded.done():
                    raise
                recorded.set_exception(error)

        thread = threading.Thread(
            target=_logged,
            args=(work, "preparation ended", "preparation failed"),
            name=f"prepare-{service.name}",
            daemon=True,
        )
        thread.start()
        try:
            return recorded.result(timeout=PATIENCE)
        except TimeoutError:
            raise ActionError(f"the plan was not recorded within {PATIENCE:g} seconds") from None

    def start(self, plan_id: int, *, run_by: str, rate: float, max_failing: float) -> bool:
        """Start the run of a plan; return False if it is already running in this process."""

        def work() -> None:
            runs.run(self.settings, plan_id, run_by=run_by, rate=rate, max_failing=max_failing)

        def run() -> None:
            reason = _logged(work, "run ended", "run failed", plan=plan_id)
            with self._lock:
                if reason:
                    self._problems[plan_id] = reason
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
        """Return why the last run in this process ended early, or an empty string."""
        return self._problems.get(plan_id, "")


def _logged(work: Callable[[], object], ended: str, failed: str, **fields: int) -> str:
    """Run the work of a thread; log and return why it has ended early, or an empty string.

    `ended` is the log message after an expected error, and `failed` after any other.
    """
    try:
        work()
    except (ExpectedError, DBAPIError) as error:
        log.info(ended, extra=fields | {"reason": problem(error)})
        return problem(error)
    except Exception as error:
        log.exception(failed, extra=fields)
        return problem(error)
    return ""
