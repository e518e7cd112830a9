"""Failures of an attempt to send an email, classified by the conclusion that each permits.

`Permanent` and `Transient` are verdicts on one email. The cause of the others may be the email or
the mail server: `notification_worker.smtp.evidence` decides.
"""

from eventbus.errors import Transient


class Unreachable(Transient):
    """The mail server currently accepts no email at all."""


class Interrupted(Transient):
    """The dialogue ended before the email was transmitted: the email was not sent."""


class SenderRefused(Transient):
    """The server rejected the sender's address, temporarily or, if `permanent`, permanently."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Unsure(Transient):
    """The email was transmitted and no valid reply arrived: it may have been sent."""
