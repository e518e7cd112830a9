"""The cause of a failed message, in a form that is safe to send, store and display.

The handler's exception itself stays in the child process: it may contain customers' data, may be
large, and may not be picklable.
"""

from enum import StrEnum
from typing import NamedTuple

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

from eventbus.database import outages
from eventbus.errors import CrashedTooOften, InvalidEvent, Outage, Permanent, WaitsBehind
from eventbus.telemetry import privacy

#: Maximum number of characters in the text of a cause, because headers must fit into one AMQP
#: frame.
TEXT_LIMIT = 2_000


#: Errors that concern one message, regardless of its handler.
_BY_MESSAGE = frozenset(error.__name__ for error in (InvalidEvent, CrashedTooOften, WaitsBehind))


class Verdict(StrEnum):
    """The consequence of a failure."""

    #: The error may be transient: the message goes through the retry tiers.
    RETRY = "retry"
    #: The error is permanent: the message is parked immediately.
    PARK = "park"
    #: The error is a timeout or lock contention. It is treated like RETRY, unless several messages
    #: in a row fail in this way.
    SLOW = "slow"
    #: The error is an infrastructure outage: consumption pauses, and no attempt is counted.
    PAUSE = "pause"


class Cause(NamedTuple):
    """The class, the description and the frame of an exception, without any customer's data."""

    verdict: Verdict
    exception: str
    text: str
    #: The function that raised the exception, as returned by `privacy.frame_of`.
    frame: str = ""

    @classmethod
    def of(
        cls, error: BaseException, permanent: tuple[type[BaseException], ...] = (Permanent,)
    ) -> "Cause":
        """Return the cause of a failure; `permanent` lists the errors that must not be retried."""
        if isinstance(error, Failed):
            return error.cause
        if outage := outages.reason(error):
            return cls(Verdict.PAUSE, Outage.__name__, outage)
        name = type(error).__name__
        text = privacy.described(error).removeprefix(f"{name}: ")[:TEXT_LIMIT]
        return cls(_verdict(error, permanent), name, text, privacy.frame_of(error))

    @property
    def is_crash(self) -> bool:
        """Whether the child process died while it handled the message."""
        return self.exception in {WorkerLostError.__name__, TimeLimitExceeded.__name__}

    @property
    def is_fault(self) -> bool:
        """Whether the message itself has failed, for a reason other than an outage or slowness."""
        return self.verdict in {Verdict.RETRY, Verdict.PARK}

    @property
    def is_by_handler(self) -> bool:
        """Whether the handler failed, and may therefore fail for other messages as well.

        False for an invalid message, a timeout, an outage, and a child process that ended: one
        message, or the infrastructure, can cause these.
        """
        return self.is_fault and not self.is_crash and self.exception not in _BY_MESSAGE

    @property
    def is_wait(self) -> bool:
        """Whether the message has not failed, but waits behind a parked message."""
        return self.exception == WaitsBehind.__name__

    def is_final(self, attempts: int, tiers: int) -> bool:
        """Return whether the message is parked if this attempt fails, instead of being retried.

        `tiers` is the number of retry tiers.
        """
        return self.verdict is Verdict.PARK or attempts > tiers

    @property
    def origin(self) -> str:
        """The class of the exception, and the function that raised it, as a group of failures."""
        return f"{self.exception} in {self.frame}" if self.frame else self.exception

    def __str__(self) -> str:
        return f"{self.exception}: {self.text}"


class Failed(Exception):
    """An exception that carries a cause from a child process to the worker's main process."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return str(self.cause)


def _verdict(error: BaseException, permanent: tuple[type[BaseException], ...]) -> Verdict:
    if isinstance(error, permanent):
        return Verdict.PARK
    if isinstance(error, SoftTimeLimitExceeded | TimeLimitExceeded) or outages.contention(error):
        return Verdict.SLOW
    return Verdict.RETRY
