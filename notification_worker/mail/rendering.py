"""Rendering: a notification as text and HTML, from the templates of its kind."""

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from functools import cache
from typing import Any
from uuid import UUID

from jinja2 import (
    Environment,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateError,
    select_autoescape,
)

from eventbus.errors import Transient
from eventbus.telemetry.privacy import described
from notification_worker.mail import letter, money
from notification_worker.mail.letter import Letter


class Unrenderable(Transient):
    """The email could not be rendered. Only a release with fixed templates can render it."""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """The content of an email about one order. The templates of `kind` show the `context`."""

    order_id: UUID
    kind: str
    recipient: str
    context: dict[str, Any]
    written_at: datetime


def message_id(order_id: UUID, kind: str, domain: str) -> str:
    """Return the Message-ID, which is the same in each attempt, so copies can be recognized."""
    return f"<{order_id}.{kind}@{domain}>"


def render(mail: Mail, *, sender: Address) -> Letter:
    """Return the email as a letter; equal arguments give equal bytes.

    Raises `Unrenderable` if a template is broken or uses a value that the context lacks, or if a
    header would contain a line break.
    """
    values = mail.context | {"order_id": mail.order_id, "shop": sender.display_name}
    try:
        subject, text, html = (template.render(values) for template in _templates(mail.kind))
        return letter.write(
            sender=sender,
            recipient=mail.recipient,
            subject=subject.strip(),
            date=mail.written_at,
            message_id=message_id(mail.order_id, mail.kind, sender.domain),
            text=text,
            html=html,
        )
    except (TemplateError, LookupError, TypeError, ValueError) as error:
        raise Unrenderable(described(error)) from error


@cache
def _templates(kind: str) -> tuple[Template, ...]:
    get = _environment().get_template
    return tuple(get(f"{kind}.{part}") for part in ("subject.txt", "txt", "html"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("notification_worker"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Templates change only with a release, so their files are not checked again for each email.
        auto_reload=False,
    )
    environment.filters["money"] = money.amount
    return environment
