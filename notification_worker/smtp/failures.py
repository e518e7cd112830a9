"""Failures of an attempt to send an email, classified by the conclusion that each permits.

`Refused` and `Deferred` are the server's verdicts on one email. The cause of `Unreachable`,
`Interrupted`, `SenderRefused` and `Unsure` may be the email or the mail server;
`notification_worker.smtp.evidence` decides which it is. Any other failure, such as an email that
cannot be rendered, is caused by the email itself, and permits no conclusion about the server.
"""

from eventbus.errors import Permanent, Transient


class Refused(Permanent):
    """The server rejected this email permanently."""


class Deferred(Transient):
    """The server rejected this email temporarily."""


class Unreachable(Transient):
    """The mail server currently does not accept any email."""


class Interrupted(Transient):
    """The dialogue ended before the email was transmitted: the email was not sent."""


class SenderRefused(Transient):
    """The server rejected the sender's address, temporarily or, if `permanent`, permanently."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Unsure(Transient):
    """The email was transmitted and no valid reply arrived: it may have been sent."""


#: Failures that the email or the mail server may have caused.
Doubtful = Unreachable | Interrupted | SenderRefused | Unsure
