"""A letter: an email as the bytes that a mail server receives, with its envelope.

The bytes are composed here because the package `email`, which parses and folds each header and
encodes text in Python, took most of the CPU time of an email. It still processes unusual headers.
"""

import re
from binascii import b2a_qp
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from functools import cache

#: Maximum number of characters in a line of a header (RFC 5322, 2.1.1).
_LINE_LIMIT = 78

_PLAIN = re.compile(r"[ -~]+")
_PLAIN_ADDRESS = re.compile(r"[^\s()<>\[\]:;,\"\\@]+@[a-zA-Z0-9.-]+")

#: `=_` cannot occur in quoted-printable text.
_BOUNDARY = "=_the-same-in-other-words"

_HEADERS = f"""\
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="{_BOUNDARY}"

"""
# Text is quoted-printable, because not every mail server accepts 8-bit text or long lines.
_PART = f"""\
--{_BOUNDARY}
Content-Type: text/{{}}; charset="utf-8"
Content-Transfer-Encoding: quoted-printable

"""


@dataclass(frozen=True)
class Letter:
    """The envelope and the content of an email; its addresses contain no line break."""

    sender: str
    recipient: str
    #: The content, as lines that end with CRLF, in ASCII unless an address is not ASCII.
    content: bytes

    def __post_init__(self) -> None:
        """Reject an address that would end a line of the dialogue."""
        if not (self.sender + self.recipient).isprintable():
            raise ValueError("an address contains a line break or another control character")

    @property
    def is_plain(self) -> bool:
        """Whether the addresses are in ASCII, which every mail server supports."""
        return (self.sender + self.recipient).isascii()


def write(
    *,
    sender: Address,
    recipient: str,
    subject: str,
    date: datetime,
    message_id: str,
    text: str,
    html: str,
) -> Letter:
    """Return the letter with the content as text and as HTML; equal arguments give equal bytes.

    Raises `ValueError` if a header would contain a line break.
    """
    content = (
        _sender(sender.display_name, sender.addr_spec),
        _recipient(recipient),
        _header("Subject", subject),
        _header("Date", format_datetime(date)),
        _header("Message-ID", message_id),
        _lines(_HEADERS),
        _lines(_PART.format("plain")),
        _quoted(text),
        _lines(f"\n{_PART.format('html')}"),
        _quoted(html),
        _lines(f"\n--{_BOUNDARY}--\n"),
    )
    return Letter(sender.addr_spec, recipient, b"".join(content))


@cache
def _sender(name: str, address: str) -> bytes:
    value = Address(name, addr_spec=address)
    return _header("From", value, utf8=not address.isascii())


def _recipient(address: str) -> bytes:
    # `Address` parses the text, and raises an error if the text is not an address.
    plain = _PLAIN_ADDRESS.fullmatch(address)
    value = address if plain else Address(addr_spec=address)
    return _header("To", value, utf8=not address.isascii())


def _header(name: str, value: str | Address, *, utf8: bool = False) -> bytes:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        line = f"{name}: {value}\r\n"
        if len(line) <= _LINE_LIMIT:
            return line.encode()
    # The policy rejects line breaks in header values.
    policy = SMTPUTF8 if utf8 else SMTP
    return policy.fold_binary(*policy.header_store_parse(name, value))


@cache
def _lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def _quoted(text: str) -> bytes:
    # Line ends are normalized, because the encoder would not change a lone `\r`.
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return b2a_qp(lines.encode()).replace(b"\n", b"\r\n")
