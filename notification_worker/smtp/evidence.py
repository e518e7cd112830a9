"""Evidence on whether an attempt failed because of its mail or because of the mail server.

A rejected sender or a lost connection may have either cause. The server is the cause while no other
mail succeeds, and the mail once the server has processed others.
"""

from threading import Lock

#: Consecutive doubtful failures, of any mails, after which the server counts as unavailable.
DOUBTFUL_LIMIT = 3

#: Consecutive permanent rejections after which a mail is no longer given up for one: the server
#: rejects every mail, and an operator can correct its configuration.
REFUSED_LIMIT = 20

#: Maximum mails with a recorded doubtful failure. Each further one drops the oldest, which gets one
#: more attempt.
_REMEMBERED = 1_000


class Evidence:
    """The combined evidence of one mailer's attempts. It is thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: The number of verdicts so far, and that number at a mail's last doubtful failure.
        self._answers = 0
        self._doubted: dict[int, int] = {}
        self._doubtful = 0
        self._refused = 0

    def taken(self, mail: int) -> None:
        """Record that the server has accepted a mail."""
        self.answered(mail)
        self._refused = 0

    def answered(self, mail: int) -> None:
        """Record that the server has accepted or rejected an individual mail."""
        with self._lock:
            self._answers += 1
            self._doubtful = 0
            self._doubted.pop(mail, None)

    def refuses_all(self) -> bool:
        """Record a permanent rejection; return whether the server rejects every mail."""
        with self._lock:
            self._refused += 1
            return self._refused > REFUSED_LIMIT

    def against(self, mail: int) -> bool:
        """Record a doubtful failure of a mail; return whether the mail is the cause.

        It is if the server has processed another mail since the same mail last failed like this.
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
        """The number of doubtful failures since the server last processed a mail."""
        return self._doubtful

    @property
    def unavailable(self) -> bool:
        """Whether there are so many doubtful failures that the server is the cause."""
        return self._doubtful >= DOUBTFUL_LIMIT
