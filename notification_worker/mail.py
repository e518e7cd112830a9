"""A notification as a mail: text and HTML, from the templates of its kind."""

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from functools import cache
from typing import Any
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError, select_autoescape

from common.errors import Transient
from notification_worker import money


class Unrenderable(Transient):
    """The mail could not be made; a release with mended templates will."""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """What one customer is told about one order; `context` is what the templates of `kind` show."""

    order_id: UUID
    kind: str
    recipient: str
    context: dict[str, Any]
    written_at: datetime


def message_id(order_id: UUID, kind: str, domain: str) -> str:
    """Return the Message-ID: the same at each attempt, so that a repeated mail can be told."""
    return f"<{order_id}.{kind}@{domain}>"


def render(mail: Mail, *, sender: Address) -> EmailMessage:
    """Return the mail, ready to be sent; the same one each time, but for its MIME boundary.

    Raises `Unrenderable` if a template is broken or wants what the context lacks, or if a header
    would contain a line break.
    """
    values = mail.context | {"order_id": mail.order_id, "shop": sender.display_name}
    try:
        # The policy refuses line breaks in header values, wherever they come from.
        message = EmailMessage(policy=SMTP)
        message["From"] = sender
        message["To"] = Address(addr_spec=mail.recipient)
        message["Subject"] = _text(f"{mail.kind}.subject.txt", values).strip()
        message["Date"] = mail.written_at
        message["Message-ID"] = message_id(mail.order_id, mail.kind, sender.domain)
        message["Auto-Submitted"] = "auto-generated"
        # Quoted-printable, because not every mail server takes 8-bit text or long lines.
        message.set_content(_text(f"{mail.kind}.txt", values), cte="quoted-printable")
        message.add_alternative(
            _text(f"{mail.kind}.html", values), subtype="html", cte="quoted-printable"
        )
    except (TemplateError, LookupError, TypeError, ValueError) as error:
        raise Unrenderable(f"{type(error).__name__}: {error}") from error
    return message


def _text(template: str, values: dict[str, Any]) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("notification_worker"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["money"] = money.amount
    return environment
