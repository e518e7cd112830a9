"""Evidence: whether an attempt failed because of its mail or because of the mail server.

A refused sender or a lost connection may be either. The server is at fault while nothing else
succeeds, the mail once the server has dealt with others.
"""

from threading import Lock

#: Doubtful failures in a row, of whichever mails, after which the server is taken for unavailable.
DOUBTFUL_LIMIT = 3

#: Mails refused for good in a row, after which none is given up for it: the server refuses all of
#: them, and an operator can correct what it is set to.
REFUSED_LIMIT = 20

#: Mails that are remembered. A forgotten one gets one more attempt.
_REMEMBERED = 1_000


class Evidence:
    """What the failures of one mailer tell together; it may be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        #: Answers about mails so far, and their count when a mail last failed in doubt.
        self._answers = 0
        self._doubted: dict[int, int] = {}
        self._doubtful = 0
        self._refused = 0

    def taken(self, mail: int) -> None:
        """Note that the server has taken a mail."""
        self.answered(mail)
        self._refused = 0

    def answered(self, mail: int) -> None:
        """Note that the server has refused a mail by itself, and so deals with mails."""
        with self._lock:
            self._answers += 1
            self._doubtful = 0
            self._doubted.pop(mail, None)

    def refuses_all(self) -> bool:
        """Note that the server has refused a mail for good; return whether it does so with all."""
        with self._lock:
            self._refused += 1
            return self._refused > REFUSED_LIMIT

    def against(self, mail: int) -> bool:
        """Note a doubtful failure of a mail; return whether it is the mail's own fault.

        It is if the server has dealt with another one since the same mail last failed so.
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
        """Doubtful failures since the server last dealt with a mail."""
        return self._doubtful

    @property
    def unavailable(self) -> bool:
        """Whether these are so many that the server is at fault."""
        return self._doubtful >= DOUBTFUL_LIMIT
