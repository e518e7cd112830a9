"""Evidence of whether an attempt failed because of its email or because of the mail server.

A rejected sender or a lost connection may have either cause. The server counts as the cause while
no other email succeeds, and the email counts as the cause once the server has processed other
emails.
"""

from threading import Lock

#: Number of consecutive doubtful failures, of any emails, after which the server counts as
#: unavailable.
DOUBTFUL_LIMIT = 3

#: Number of consecutive permanent rejections after which a rejection no longer marks an email as
#: failed. The server then rejects every email, and an operator can correct its configuration.
REFUSED_LIMIT = 20

#: Maximum number of emails with a recorded doubtful failure. Each additional email drops the
#: oldest, which receives one more attempt.
_REMEMBERED = 1_000


class Evidence:
    """The combined, thread-safe evidence of one mailer's attempts."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: The number of verdicts so far, and the number of verdicts at the time of each email's
        #: last doubtful failure.
        self._answers = 0
        self._doubted: dict[int, int] = {}
        self._doubtful = 0
        self._refused = 0

    def taken(self, mail: int) -> None:
        """Record that the server has accepted an email."""
        self.answered(mail)
        self._refused = 0

    def answered(self, mail: int) -> None:
        """Record that the server has accepted or rejected an individual email."""
        with self._lock:
            self._answers += 1
            self._doubtful = 0
            self._doubted.pop(mail, None)

    def refuses_all(self) -> bool:
        """Record a permanent rejection, and return whether the server rejects every email."""
        with self._lock:
            self._refused += 1
            return self._refused > REFUSED_LIMIT

    def against(self, mail: int) -> bool:
        """Record a doubtful failure of an email, and return whether the email is the cause.

        The email is the cause if the server has processed another email since the email's last
        failure of this kind.
        """
        with self._lock:
            before = self._doubted.pop(mail, self._answers)
            self._doubted[mail] = self._answers
            if len(self._doubted) > _REMEMBERED:
                del self._doubted[next(iter(self._doubted))]
            self._doubtful += 1
            return self._answers > before

    @property
    def doubtful(self) -> int:
        """The number of doubtful failures since the server last processed an email."""
        return self._doubtful

    @property
    def unavailable(self) -> bool:
        """Whether the number of doubtful failures shows that the server is the cause."""
        return self._doubtful >= DOUBTFUL_LIMIT
