"""Every error the system raises on purpose; the class docstring is the default message."""


class OrderSystemError(Exception):
    """Something in the order system failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Transient(OrderSystemError):
    """This may work later: the runtime tries the event again through the retry tiers."""


class Permanent(OrderSystemError):
    """This will never work: the runtime parks the message at once."""


class InvalidEvent(Permanent):
    """The message is not an event that this service knows."""


class Outage(Transient):
    """The infrastructure does not work: consumption pauses, and no event is charged for it."""


class CrashedTooOften(Permanent):
    """The worker died too often while it handled this event."""
