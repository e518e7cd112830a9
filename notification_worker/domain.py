"""The kind of email that each event causes, and the delays between attempts."""

from enum import StrEnum


class Kind(StrEnum):
    """The subject matter of an email. The value names its templates."""

    RECEIVED = "received"
    CONFIRMED = "confirmed"
    SHIPPED = "shipped"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    SUSPECTED = "suspected"


#: The recipient of emails to the operator, which the mailer replaces with the operator's address.
#: It does not have the form of an address, so it cannot be a customer's.
OPERATOR = "operator"


class Status(StrEnum):
    """The state of an email: PENDING, SENT, FAILED (permanently), or HELD, which is never sent."""

    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    #: The email was recorded from history. Its content is old, and was most likely sent at that
    #: time.
    HELD = "HELD"


#: Seconds before the second attempt. Each later delay is twice the previous delay.
FIRST_DELAY = 1.0

#: Longest delay in seconds, which gives four attempts per hour if a mailbox is full, or a sender is
#: greylisted, for hours.
LONGEST_DELAY = 900.0

#: Seconds before an email that may have been sent is sent again. Each later delay is four times as
#: long: 1, 4 and 16 hours. The cause of the missing reply may last, and each attempt may deliver
#: another copy to the customer.
UNSURE_DELAY = 3_600.0

#: Number of attempts with an unknown outcome after which an email is abandoned, because it has most
#: likely arrived.
MAX_UNSURE = 4


def kind_of_cancellation(reason: str) -> Kind:
    """Return the kind of email for an `order.cancelled`: REJECTED if the order was out of stock."""
    return Kind.REJECTED if reason == "out_of_stock" else Kind.CANCELLED


def retry_delay(failures: int, *, jitter: float, longest: float = LONGEST_DELAY) -> float:
    """Return the delay in seconds after this number of consecutive failures (from 1).

    `jitter`, from 0 to 1, shortens the delay by up to a quarter, so emails that failed at the same
    time are not retried at the same time.
    """
    # The exponent is limited because 2.0 ** 1024 overflows. The delay reaches its own limit long
    # before.
    delay = min(longest, FIRST_DELAY * 2.0 ** min(failures - 1, 64))
    return delay * (1 - jitter / 4)


def unsure_delay(attempts: int) -> float:
    """Return the delay in seconds after this number of attempts with unknown outcome (from 1)."""
    return UNSURE_DELAY * 4.0 ** (attempts - 1)
