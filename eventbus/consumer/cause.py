"""Why the handling of a message failed, in a form that is safe to send, to store and to show.

A handler's own exception stays in its child process: it may quote a customer's data, may be large,
and may not survive `pickle`.
"""

from enum import StrEnum
from typing import NamedTuple

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

from eventbus.database import outages
from eventbus.errors import Outage, Permanent
from eventbus.telemetry import privacy

#: Characters of a cause's text: headers must fit into one AMQP frame.
TEXT_LIMIT = 2_000


class Verdict(StrEnum):
    """What follows from a failure."""

    #: It may work later: the message goes through the retry tiers.
    RETRY = "retry"
    #: It will never work: the message is parked at once.
    PARK = "park"
    #: It took too long, or lost against others: RETRY, unless nothing else works either.
    SLOW = "slow"
    #: The infrastructure does not work: consumption pauses, and no message is charged.
    PAUSE = "pause"


class Cause(NamedTuple):
    """A failure: the exception's class, and what is known of it without any customer's value."""

    verdict: Verdict
    exception: str
    text: str

    @classmethod
    def of(
        cls, error: BaseException, permanent: tuple[type[BaseException], ...] = (Permanent,)
    ) -> "Cause":
        """Return the cause of a failure; `permanent` are the errors that no repetition cures."""
        if isinstance(error, Failed):
            return error.cause
        if outage := outages.reason(error):
            return cls(Verdict.PAUSE, Outage.__name__, outage)
        name = type(error).__name__
        text = privacy.described(error).removeprefix(f"{name}: ")[:TEXT_LIMIT]
        return cls(_verdict(error, permanent), name, text)

    @property
    def is_crash(self) -> bool:
        """Whether the child process ended with the message."""
        return self.exception in {WorkerLostError.__name__, TimeLimitExceeded.__name__}

    def __str__(self) -> str:
        return f"{self.exception}: {self.text}"


class Failed(Exception):
    """Carries a cause from a child process to the worker's main process."""

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
