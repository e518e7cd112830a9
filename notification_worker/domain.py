"""Which mail answers which fact, and when a mail that failed is tried again."""

from enum import StrEnum


class Kind(StrEnum):
    """What a mail tells; the value names its templates."""

    RECEIVED = "received"
    CONFIRMED = "confirmed"
    SHIPPED = "shipped"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    SUSPECTED = "suspected"


#: The recipient of what is for who runs the shop. It is no address, so no customer has it; the
#: mailer knows theirs.
OPERATOR = "operator"


class Status(StrEnum):
    """What became of a mail: PENDING until it is SENT or, for good, FAILED; HELD never leaves."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    #: Recorded from history: its news is old, and most likely was sent.
    HELD = "HELD"


#: Seconds before the second attempt; each further wait is twice as long as the one before.
FIRST_DELAY = 1.0

#: Seconds. A mailbox that is full or greylisted for hours is asked four times an hour.
LONGEST_DELAY = 900.0

#: Seconds before a mail that may have left is sent once more; each further wait is four times as
#: long: 1, 4 and 16 hours. What kept the server from answering may last, and each attempt may be
#: one more copy for the customer.
UNSURE_DELAY = 3_600.0

#: Attempts of unknown outcome after which a mail is given up: most likely it has arrived.
MAX_UNSURE = 4


def kind_of_cancellation(reason: str) -> Kind:
    """Return the mail for an `order.cancelled`: out of stock is our news, not the customer's."""
    return Kind.REJECTED if reason == "out_of_stock" else Kind.CANCELLED


def retry_delay(failures: int, *, jitter: float, longest: float = LONGEST_DELAY) -> float:
    """Return the seconds to wait after so many failures in a row (from 1).

    `jitter`, from 0 to 1, shortens the wait by up to a quarter, so that mails that failed
    together do not come back together.
    """
    # The exponent is limited because 2.0 ** 1024 overflows, long after the delay stopped growing.
    delay = min(longest, FIRST_DELAY * 2.0 ** min(failures - 1, 64))
    return delay * (1 - jitter / 4)


def unsure_delay(attempts: int) -> float:
    """Return the seconds to wait after so many attempts of unknown outcome (from 1)."""
    return UNSURE_DELAY * 4.0 ** (attempts - 1)
