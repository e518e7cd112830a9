"""Amounts, addresses and delays of emails."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notification_worker.domain import Kind, kind_of_cancellation, retry_delay
from notification_worker.mail import address
from notification_worker.mail.money import amount


@pytest.mark.parametrize(
    ("minor_units", "currency", "expected"),
    [
        (0, "EUR", "EUR 0.00"),
        (5, "USD", "USD 0.05"),
        (123_456_789, "EUR", "EUR 1,234,567.89"),
        (-1_050, "EUR", "EUR -10.50"),
        (1_234, "JPY", "JPY 1,234"),
        (1_234, "KWD", "KWD 1.234"),
        (12_345, "CLF", "CLF 1.2345"),
        (10**18 + 1, "EUR", "EUR 10,000,000,000,000,000.01"),
    ],
)
def test_an_amount_is_formatted_by_its_currency(
    minor_units: int, currency: str, expected: str
) -> None:
    assert amount(minor_units, currency) == expected


@given(st.integers(), st.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_an_amount_loses_no_minor_unit(minor_units: int, currency: str) -> None:
    digits = re.sub(r"[^\d-]", "", amount(minor_units, currency))
    assert int(digits) == minor_units


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Ann.O'Hara+shop@Example.com", "Ann.O'Hara+shop@example.com"),
        ("ann@b\u00fccher.example", "ann@xn--bcher-kva.example"),
        ("j\u00f6rg@example.com", "j\u00f6rg@example.com"),
        ("ann@shop.test", "ann@shop.test"),
    ],
)
def test_the_domain_of_an_address_becomes_ascii(given: str, expected: str) -> None:
    assert address.ascii_domain(given) == expected


@pytest.mark.parametrize("text", ["", "ann", "@example.com", "ann@", "a b@c", "a@b,c@d", "a@b\x00"])
def test_an_invalid_address_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="not an email address"):
        address.ascii_domain(text)


def test_a_sender_without_a_name_shows_its_domain() -> None:
    assert address.sender("orders@shop.example").display_name == "shop.example"


def test_the_reason_chooses_the_mail_of_a_cancellation() -> None:
    assert kind_of_cancellation("out_of_stock") is Kind.REJECTED
    assert kind_of_cancellation("customer") is Kind.CANCELLED
    assert kind_of_cancellation("deadline") is Kind.CANCELLED


def test_delays_double_up_to_fifteen_minutes() -> None:
    waits = [retry_delay(failures, jitter=0) for failures in range(1, 13)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert retry_delay(5_000, jitter=0) == 900
    assert retry_delay(3, jitter=1) == 3
