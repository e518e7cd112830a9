"""The fast path of validation accepts exactly the addresses that the library accepts."""

from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from order_app.http.requests import EMAIL_LIMIT, Customer

PARTS = st.lists(
    st.sampled_from(["a", "Ann", "x+y", "_", "-", "", "é", "1", "test", "local", "xn--9ca"]),
    max_size=4,
).map(".".join)
LONG = st.integers(1, EMAIL_LIMIT).map(lambda length: "a" * length)
DOMAINS = PARTS | st.sampled_from(["example.com", "EXAMPLE.com", "münchen.de", "xn--mnchen-3ya.de"])
ADDRESSES = st.tuples(PARTS | LONG, DOMAINS | LONG).map("@".join) | st.emails() | st.text()


def by_library(address: str) -> str | None:
    """Return an address as the library normalizes it, or None if it is invalid."""
    try:
        validated = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return validated.normalized if len(validated.normalized) <= EMAIL_LIMIT else None


def by_api(address: str) -> str | None:
    try:
        return Customer(email=address).email
    except ValidationError:
        return None


@given(ADDRESSES.filter(lambda address: len(address) <= EMAIL_LIMIT))
def test_an_address_is_validated_like_the_library_does(address: str) -> None:
    assert by_api(address) == by_library(address)
