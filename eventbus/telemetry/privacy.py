"""Descriptions of errors without customers' data, for logs, headers, spans and stored reasons.

PostgreSQL quotes the offending values in an error's text (`Key (email)=(...) already exists`), and
Python quotes keys: these texts are never included. Mail servers quote addresses, which are masked.
"""

import re
import sysconfig
import traceback
from functools import singledispatch
from pathlib import Path
from smtplib import SMTPRecipientsRefused, SMTPResponseException

from amqp.exceptions import AMQPError
from billiard.exceptions import WorkerLostError
from kombu.exceptions import OperationalError as BrokerError

from eventbus.errors import ExpectedError

#: Directories of code that is not the service's own: Python, installed packages, this library.
_FOREIGN = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[1]),
    }
)

#: Maximum number of characters in a frame: a file in its directory, and a function.
FRAME_LIMIT = 200

#: The replacement for an email address.
MASK = "***"

#: Maximum number of characters of a mail server's reply that are included.
REPLY_LIMIT = 1_000

#: An address with a quoted local part, or any token: it is an address if it contains an `@`,
#: which is `%40` in a URL.
_TOKEN = re.compile(r'"[^"\n]*"@[^\s<>]+|[^\s<>()\[\],;:"]+')

#: Errors whose text names code, hosts or files, never the input of a customer.
_SAFE = (
    ExpectedError,
    AMQPError,
    BrokerError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    RecursionError,
    WorkerLostError,
)


def described(error: BaseException) -> str:
    """Return the class of an error and its details, without customers' data.

    A database error is described by its SQLSTATE and the objects it names, an error of this system
    by its message, a mail server's refusal by its reply, and an error with an unsafe text by the
    line of code that raised it. Email addresses are masked.
    """
    # SQLAlchemy's error, whose text contains the statement, wraps the driver's error.
    if isinstance(cause := getattr(error, "orig", None), BaseException):
        return described(cause)
    text = masked(details(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@singledispatch
def details(error: BaseException) -> str:
    """Return the details of an error that are known to be harmless; packages register their errors.

    For a class that is not registered, this is the line of code that raised the error.
    """
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return "".join(f"raised in {_module(f.filename)}:{f.lineno}, {f.name}" for f in frames)


for _class in _SAFE:
    details.register(_class, str)


@details.register
def _refused(error: SMTPResponseException) -> str:
    return reply(error.smtp_code, error.smtp_error)


@details.register
def _all_refused(_error: SMTPRecipientsRefused) -> str:
    # The text of this error is a table of recipients.
    return ""


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error and its causes, each as `described`."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [trace_of(cause), ""] if cause else []
    lines += ["Traceback (most recent call last):"] if error.__traceback__ else []
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    return "\n".join([*lines, *([frames] if frames else []), described(error)])


def frame_of(error: BaseException) -> str:
    """Return the last function of the service's own code in an error's traceback.

    It has the form `inventory_worker/reservations.py:lock_stock`, and contains only names of code.
    If the traceback contains no function of the service, the result is the last function of any
    code; without a traceback it is empty.
    """
    # The frame omits the line number, which differs between releases, because one bug must remain
    # one group.
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [code for code in codes if not code.co_filename.startswith(_FOREIGN)]
    return "".join(f"{_module(code.co_filename)}:{code.co_name}" for code in (own or codes)[-1:])[
        :FRAME_LIMIT
    ]


def reply(code: int, text: bytes | str, recipient: str = "") -> str:
    """Return a mail server's reply with its codes, masked for an email to `recipient`."""
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {masked(decoded, recipient)}"[:REPLY_LIMIT]


def masked(text: str, address: str = "") -> str:
    """Return a text with every email address replaced by `MASK`.

    The local part and the domain of `address` are also replaced where they stand alone.
    """
    if _has_address(text):
        text = _TOKEN.sub(lambda token: MASK if _has_address(token[0]) else token[0], text)
    local, _, domain = address.rpartition("@")
    if words := "|".join(re.escape(word) for word in (local, domain) if word):
        # Occurrences inside a longer word or host name are not replaced.
        alone = rf"(?<![\w.-])(?:{words})(?![\w-]|\.\w)"
        text = re.sub(alone, MASK, text, flags=re.IGNORECASE)
    return text


def _has_address(text: str) -> bool:
    return "@" in text or "%40" in text


def _module(filename: str) -> str:
    return "/".join(filename.split("/")[-2:])
