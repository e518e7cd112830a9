"""The errors that are raised on purpose; the class docstring is the default message."""


class ExpectedError(Exception):
    """An error whose message is for its reader: it is shown without a trace."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Transient(ExpectedError):
    """This may work later: the runtime retries the event through the retry tiers."""


class Permanent(ExpectedError):
    """This will never work: the runtime parks the message at once."""


class InvalidEvent(Permanent):
    """The message is not an event that this service knows."""


class Outage(Transient):
    """The infrastructure does not work: consumption pauses, and no event is charged for it."""


class CrashedTooOften(Permanent):
    """The worker died too often while it handled this event."""
