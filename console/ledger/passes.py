"""The ledger's passes in a process, on one thread that starts when it is first needed."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from console.ledger.books import Books
from console.ledger.watch import Watch
from console.settings import ConsoleSettings
from eventbus.errors import ExpectedError
from eventbus.telemetry.metrics import gauge
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Seconds from the start of one pass to the start of the next.
INTERVAL = 60.0


@dataclass(eq=False)
class Passes(Collector):
    """The results of the last pass, as metrics. The first scrape starts the passes."""

    settings: ConsoleSettings
    #: The numbers of missing events and of open events, by service.
    _missing: dict[str, int] = field(default_factory=dict)
    _open: dict[str, int] = field(default_factory=dict)
    _completed_at: float = field(default_factory=time.monotonic)
    _problem: str | None = None
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last pass."""
        self._start()
        missing = GaugeMetricFamily(
            "orders_ledger_missing",
            "Events that were sent, and that their consumer can never handle, by proof.",
            labels=("consumer",),
        )
        unhandled = GaugeMetricFamily(
            "orders_ledger_open",
            "Events that were sent over a minute ago, and that their consumer has not handled.",
            labels=("consumer",),
        )
        for service, count in self._missing.items():
            missing.add_metric((service,), count)
            unhandled.add_metric((service,), self._open[service])
        yield missing
        yield unhandled
        yield gauge(
            "orders_ledger_pass_age_seconds",
            "Time since the ledger's last pass over the events was complete.",
            time.monotonic() - self._completed_at,
        )

    def describe(self) -> Iterator[Metric]:
        """Return no metrics, because registration must not start the passes."""
        yield from ()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        # The thread ends with the process.
        with Books.opened(self.settings) as books:
            watch = Watch(self.settings, books)
            while True:
                began = time.monotonic()
                self._pass(watch)
                time.sleep(max(0.0, began + INTERVAL - time.monotonic()))

    def _pass(self, watch: Watch) -> None:
        problem = None
        try:
            watch.run()
        except (ExpectedError, DBAPIError) as error:
            problem = described(error)
        except Exception as error:
            # An exception would end the thread, and later passes would not run.
            log.exception("ledger pass failed")
            problem = described(error)
        else:
            self._missing = {a.service.name: len(a.missing) for a in watch.accounts}
            self._open = {a.service.name: len(a.open) for a in watch.accounts}
            self._completed_at = time.monotonic()
        # One line is logged at the first failure and one at the recovery, rather than one for each
        # pass.
        if problem != self._problem:
            if problem:
                log.warning("ledger pass interrupted", extra={"reason": problem})
            else:
                log.info("ledger passes resumed")
        self._problem = problem
