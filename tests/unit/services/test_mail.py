"""The emails to customers and to the operator: their content, their headers and their encoding."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from typing import Any
from uuid import UUID

import pytest

from notification_worker.domain import Kind
from notification_worker.mail import address
from notification_worker.mail.rendering import Mail, Unrenderable, render

ORDER = UUID("01979c3e-7a10-7d2c-9f0e-5b1d2c3e4f50")

SENDER = address.sender("Bean & Leaf <orders@shop.example>")

SHORTAGES = [
    {"sku": "COFFEE", "requested": 2, "available": 1},
    {"sku": "MUG", "requested": 9, "available": 0},
]

EVERY_MAIL = [
    (Kind.RECEIVED, {}),
    (Kind.CONFIRMED, {}),
    (Kind.SHIPPED, {}),
    (Kind.REJECTED, {"reason": "out_of_stock", "shortages": SHORTAGES}),
    (Kind.REJECTED, {"reason": "out_of_stock", "shortages": []}),
    (Kind.CANCELLED, {"reason": "customer", "shortages": []}),
    (Kind.CANCELLED, {"reason": "deadline", "shortages": []}),
    (Kind.CANCELLED, {"reason": "a reason of a later release", "shortages": []}),
]

#: The content of an email to the operator, which has no lines.
SUSPICION = {
    "customer_email": "ann@example.com",
    "client_ip": "192.0.2.7",
    "score": 160,
    "reasons": [
        {"rule": "email_orders", "found": 6, "limit": 5},
        {"rule": "ip_orders", "found": 21, "limit": 20},
        {"rule": "amount", "found": 1_114_084, "limit": 100_000},
        {"rule": "pieces", "found": 51, "limit": 50},
        {"rule": "skus", "found": 22, "limit": 19},
        {"rule": "of_a_later_release", "found": 8, "limit": 7},
    ],
}

every_mail = pytest.mark.parametrize(("kind", "extra"), [*EVERY_MAIL, (Kind.SUSPECTED, SUSPICION)])

mail_to_a_customer = pytest.mark.parametrize(("kind", "extra"), EVERY_MAIL)


def mail(kind: Kind = Kind.RECEIVED, *, recipient: str = "ann@example.com", **context: Any) -> Mail:
    lines = [
        {"sku": "COFFEE", "quantity": 2, "unit_price": 1490},
        {"sku": "MUG", "quantity": 9, "unit_price": 123456},
    ]
    return Mail(
        order_id=ORDER,
        kind=kind,
        recipient=recipient,
        context={"currency": "EUR", "total": 1_114_084, "lines": lines} | context,
        written_at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
    )


def rendered(kind: Kind = Kind.RECEIVED, **context: Any) -> EmailMessage:
    """Return an email as a mail program parses it."""
    message = message_from_bytes(
        render(mail(kind, **context), sender=SENDER).content, policy=policy.default
    )
    assert isinstance(message, EmailMessage)
    return message


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def words(text: str) -> list[str]:
    return re.findall(r"[\w.,<>&-]+", text)


def words_of_html(html: str) -> list[str]:
    visible = re.sub(r"(?s)<head>.*</head>|<[^>]*>", " ", html)
    # The text part has an ASCII letter instead of the multiplication sign.
    return words(unescape(visible).replace("\u00d7", "x"))


@every_mail
def test_both_parts_have_the_same_words(kind: Kind, extra: dict[str, Any]) -> None:
    message = rendered(kind, **extra)
    assert sorted(words(text_of(message))) == sorted(words_of_html(html_of(message)))


@mail_to_a_customer
def test_every_mail_has_the_order_its_lines_and_the_total(
    kind: Kind, extra: dict[str, Any]
) -> None:
    message = rendered(kind, **extra)
    assert str(ORDER) in str(message["Subject"])
    for part in (text_of(message), unescape(html_of(message))):
        for fact in (str(ORDER), "COFFEE", "MUG", "EUR 29.80", "EUR 11,111.04", "EUR 11,140.84"):
            assert fact in part


def test_a_suspicion_has_the_order_the_customer_and_every_reason() -> None:
    message = rendered(Kind.SUSPECTED, **SUSPICION)
    assert str(message["Subject"]) == f"Order {ORDER} looks like fraud"
    for part in (text_of(message), unescape(html_of(message))):
        for fact in (str(ORDER), "ann@example.com", "192.0.2.7", "EUR 11,140.84", "160"):
            assert fact in part
        for reason in (
            "at least 6 orders from this email address in a short time; 5 are usual",
            "at least 21 orders from this IP address in a short time; 20 are usual",
            "it costs EUR 11,140.84; up to EUR 1,000.00 is usual",
            "51 units; up to 50 are usual",
            "22 different SKUs; up to 19 are usual",
            "of_a_later_release: 8; up to 7 is usual",
        ):
            assert reason in part
        assert "when you contact us" not in part


def test_a_suspicion_without_a_client_address_states_so() -> None:
    text = text_of(rendered(Kind.SUSPECTED, **(SUSPICION | {"client_ip": None})))
    assert "IP address: unknown\n" in text


def test_a_rejection_lists_the_shortages() -> None:
    text = text_of(rendered(Kind.REJECTED, shortages=SHORTAGES))
    assert "COFFEE: you ordered 2, we have 1\n" in text
    assert "MUG: you ordered 9, we have none\n" in text


@pytest.mark.parametrize(
    ("reason", "phrase"), [("customer", "As you asked"), ("deadline", "in time")]
)
def test_a_cancellation_has_its_reason(reason: str, phrase: str) -> None:
    assert phrase in text_of(rendered(Kind.CANCELLED, reason=reason, shortages=[]))


def test_the_headers_of_a_mail_are_complete() -> None:
    message = rendered(Kind.CONFIRMED)
    assert dict(message.items()) == {
        "From": "Bean & Leaf <orders@shop.example>",
        "To": "ann@example.com",
        "Subject": f"Your order {ORDER} is confirmed",
        "Date": "Sun, 01 Mar 2026 12:30:00 +0000",
        "Message-ID": f"<{ORDER}.confirmed@shop.example>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": message["Content-Type"],
    }
    assert message.get_content_type() == "multipart/alternative"


def test_a_mail_is_ascii_with_short_lines() -> None:
    sku = "\u00c4" + "x" * 3_000
    sent = render(mail(lines=[{"sku": sku, "quantity": 1, "unit_price": 1}]), sender=SENDER).content
    assert sent.isascii()
    assert max(len(line) for line in sent.split(b"\r\n")) <= 998
    assert b"\n" not in sent.replace(b"\r\n", b"")


def test_html_in_a_sku_is_escaped() -> None:
    sku = "<img src=x onerror=alert(1)>"
    message = rendered(
        Kind.REJECTED,
        lines=[{"sku": sku, "quantity": 1, "unit_price": 1}],
        shortages=[{"sku": sku, "requested": 1, "available": 0}],
    )
    assert "<img" not in html_of(message)
    assert unescape(html_of(message)).count(sku) == 2
    assert text_of(message).count(sku) == 2


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_an_address_with_a_line_break_is_rejected(line_break: str) -> None:
    injected = f"ann@example.com{line_break}Bcc: all@example.com"
    with pytest.raises(Unrenderable):
        render(mail(recipient=injected), sender=SENDER)
    with pytest.raises(ValueError, match="not an email address"):
        address.ascii_domain(injected)
    message = EmailMessage(policy=policy.SMTP)
    with pytest.raises(ValueError, match="linefeed"):
        message["Subject"] = f"Hello{line_break}Bcc: all@example.com"


def test_a_missing_value_of_a_template_is_an_error() -> None:
    with pytest.raises(Unrenderable, match=r"UndefinedError: raised in templates/rejected\.txt:5"):
        render(mail(Kind.REJECTED), sender=SENDER)


def test_a_kind_without_templates_is_unrenderable() -> None:
    unknown: Any = "lost"
    with pytest.raises(Unrenderable, match="lost"):
        render(mail(unknown), sender=SENDER)
