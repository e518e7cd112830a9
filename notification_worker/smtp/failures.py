"""The ways in which an attempt to send a mail fails, by what each of them proves.

`Permanent` and `Transient` are answers about one mail. The others may be the mail server's fault as
well as the mail's; `notification_worker.smtp.evidence` decides which.
"""

from eventbus.errors import Transient


class Unreachable(Transient):
    """The mail server takes no mail at present, whichever it is."""


class Interrupted(Transient):
    """The dialogue ended before the mail was handed over; the mail has not left."""


class SenderRefused(Transient):
    """The server refused the sender's address; `permanent` if it did so for good."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Unsure(Transient):
    """The mail was handed over and no valid answer came: it may have left."""
