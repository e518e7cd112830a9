"""A letter is read by a mail program as it was written, and takes no injected header."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_worker.mail.letter import Letter, write

SENDER = Address("The Shop", "orders", "shop.example")
LINE_BREAKS = ("\n", "\r", "\r\n")
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("=. \t\r\n")))


def a_letter(**changes: Any) -> Letter:
    values: dict[str, Any] = {
        "sender": SENDER,
        "recipient": "ann@example.com",
        "subject": "Hello",
        "date": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "message_id": "<1@shop.example>",
        "text": "Hello\n",
        "html": "<p>Hello\n",
    }
    return write(**(values | changes))


def read(letter: Letter) -> EmailMessage:
    message = message_from_bytes(letter.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def one_kind_of_line_break(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(texts, texts)
def test_both_parts_are_read_as_they_were_written(text: str, html: str) -> None:
    letter = a_letter(text=text, html=html)
    for part, written in zip(read(letter).iter_parts(), (text, html), strict=True):
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        assert one_kind_of_line_break(content.decode()) == one_kind_of_line_break(written)


def test_a_text_that_contains_the_boundary_is_kept() -> None:
    boundary = read(a_letter()).get_boundary()
    text = f"Hello\n--{boundary}--\n"
    parts = list(read(a_letter(text=text)).iter_parts())
    assert len(parts) == 2
    assert one_kind_of_line_break(parts[0].get_content()) == text


@given(texts)
def test_lines_are_short_ascii_with_uniform_endings(text: str) -> None:
    content = a_letter(text=text, html=text).content
    assert content.isascii()
    lines = content.split(b"\r\n")
    assert lines.pop() == b""
    assert max(map(len, lines)) <= 78
    assert not any(b"\r" in line or b"\n" in line for line in lines)


@pytest.mark.parametrize("subject", ["Hello", "K\u00e4se " * 30, "long " * 40, "x" * 100])
def test_any_subject_is_read_as_it_was_written(subject: str) -> None:
    letter = a_letter(subject=subject.strip())
    assert read(letter)["Subject"] == subject.strip()
    assert max(map(len, letter.content.split(b"\r\n"))) <= 100 + len("Subject: ")


@pytest.mark.parametrize("name", ["", "The Shop", 'B\u00e4r, Bean & "Leaf"', "long " * 30 + "name"])
def test_any_sender_is_read_as_it_was_written(name: str) -> None:
    message = read(a_letter(sender=Address(name, "orders", "shop.example")))
    [sender] = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "orders@shop.example")


@pytest.mark.parametrize(
    "recipient", ["ann@example.com", "o'hara+shop@example.com", '"a, b"@example.com']
)
def test_a_recipient_is_read_as_it_was_written(recipient: str) -> None:
    letter = a_letter(recipient=recipient)
    assert [each.addr_spec for each in read(letter)["To"].addresses] == [recipient]
    assert letter.recipient == recipient


def test_two_recipients_are_rejected() -> None:
    with pytest.raises(ValueError, match="Invalid addr_spec"):
        a_letter(recipient="ann@example.com, all@example.com")


def test_a_non_ascii_address_is_kept() -> None:
    letter = a_letter(recipient="j\u00f6rg@example.com")
    assert "To: j\u00f6rg@example.com\r\n".encode() in letter.content


@pytest.mark.parametrize("line_break", LINE_BREAKS)
@pytest.mark.parametrize("field", ["recipient", "subject", "message_id"])
def test_a_header_with_a_line_break_is_rejected(field: str, line_break: str) -> None:
    with pytest.raises(ValueError, match=r"CR or LF|linefeed or carriage return"):
        a_letter(**{field: f"ann@example.com{line_break}Bcc: all@example.com"})


@pytest.mark.parametrize("line_break", LINE_BREAKS)
@pytest.mark.parametrize("at", [0, 1])
def test_an_envelope_with_a_line_break_is_rejected(at: int, line_break: str) -> None:
    addresses = ["orders@shop.example", "ann@example.com"]
    addresses[at] += f"{line_break}RCPT TO:<all@example.com>"
    with pytest.raises(ValueError, match="line break"):
        Letter(*addresses, content=b"")
