"""The decision whether a worker consumes, derived from the pause of its service."""

import logging
from collections.abc import Callable
from typing import Any

from eventbus.consumer.cause import Cause
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Seconds after the end of a pause during which a worker that starts first handles a canary. The
#: value is the maximum duration of a rollout, because a release may be rolled out after the end of
#: the pause.
CANARY_WINDOW = 600.0


class Decision:
    """The pause of the service, as last read or as decided by the worker itself.

    It outlives connections. After a pause, the worker first handles a single event, the canary. A
    worker that starts soon after the pause does the same.
    """

    def __init__(self, *, has_canary: bool = True) -> None:
        """Without a canary, the worker resumes with all messages immediately."""
        self._has_canary = has_canary
        #: Whether a read has succeeded. Until then, no events are consumed.
        self.is_known = False
        #: The pause in effect, if any.
        self.pause: OperatorPause | None = None
        #: The reason why this worker pauses its service, until the database contains the pause.
        self.unstored: str | None = None
        #: Whether no event has been handled since the pause ended.
        self.needs_canary = False
        #: A function that is called when this worker pauses its service. The consumption of each
        #: connection sets it.
        self.on_pause: Callable[[], None] = lambda: None
        #: The reason why the last read failed.
        self._problem: str | None = None

    @property
    def allows(self) -> bool:
        """Whether the worker may consume."""
        return self.is_known and self.pause is None and self.unstored is None

    @property
    def is_by_worker(self) -> bool:
        """Whether this worker or another worker of the service has paused the service."""
        return self.unstored is not None or (self.pause is not None and self.pause.is_by_worker)

    @property
    def state(self) -> str:
        """The text of the health file: a release can be deployed to a paused service."""
        if self.is_by_worker:
            return "ready, paused after failures"
        return "ready, paused by an operator" if self.pause else "ready"

    def learn(self, latest: OperatorPause | None) -> None:
        """Record the result of a read: the pause in effect, or the pause that ended last.

        If no pause is in effect, a pause that is not stored yet continues.
        """
        pause = latest if latest and latest.ended_seconds is None else None
        if pause and not (self.pause or self.unstored):
            self._log_start(pause)
        elif self.pause and not pause:
            log.info("consumption started by operator", extra=_log_fields(self.pause))
            self.needs_canary = self._has_canary
        elif not self.is_known and latest and latest.ended_seconds is not None:
            self._start_after(latest, latest.ended_seconds)
        if pause:
            self.unstored = None
        self.is_known, self.pause, self._problem = True, pause, None
        self._measure()

    def miss(self, cause: Cause) -> None:
        """Record a failed read or write, after which the last decision remains in effect."""
        if self._problem is None:
            text = "pause not stored" if self.unstored else "operator's pause not read"
            log.warning(text, extra={"reason": str(cause)})
        self._problem = str(cause)

    def pause_service(self, reason: str) -> None:
        """Stop this worker now, and all other workers once the database contains the pause.

        Only an operator resumes the service. `reason` contains no customer's data.
        """
        if not self.allows:
            return
        log.error("consumption stopped after failures", extra={"reason": reason})
        self.unstored, self._problem = reason, None
        self._measure()
        self.on_pause()

    def canary_handled(self) -> None:
        """Record that the first event after a pause was handled."""
        log.info("canary handled after a pause")
        self.needs_canary = False

    def _start_after(self, ended: OperatorPause, seconds: float) -> None:
        if self._has_canary and seconds < CANARY_WINDOW:
            log.info("consumption starts with a canary", extra=_log_fields(ended))
            self.needs_canary = True

    def _log_start(self, pause: OperatorPause) -> None:
        if pause.is_by_worker:
            log.error("consumption stopped after failures", extra=_log_fields(pause))
        else:
            log.warning("consumption stopped by operator", extra=_log_fields(pause))

    def _measure(self) -> None:
        metrics.operator_pause().set(self.pause.seconds if self.pause else 0.0)
        metrics.own_pause().set(self.is_by_worker)


def _log_fields(pause: OperatorPause) -> dict[str, Any]:
    return {
        "operator": pause.paused_by,
        "reason": pause.reason,
        "seconds": round(pause.seconds),
    }
