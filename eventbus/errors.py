"""The library's exceptions. A class's docstring is its default message."""


class ExpectedError(Exception):
    """An error whose message is sufficient for its reader; it is shown without a traceback."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Transient(ExpectedError):
    """The error may disappear: the event is retried through the retry tiers."""


class Permanent(ExpectedError):
    """The error will not disappear: the message is parked immediately."""


class InvalidEvent(Permanent):
    """The message is not an event that this service can decode and handle."""


class Outage(Transient):
    """The infrastructure is down: consumption pauses, and no event is charged an attempt."""


class CrashedTooOften(Permanent):
    """The worker crashed too often while it handled this event."""


class WaitsBehind(Permanent):
    """The event waits behind an earlier event of its subject, which is parked."""
