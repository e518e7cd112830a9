"""What the API takes for an address: the same, whether it is looked at closely or not."""

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


def closely(address: str) -> str | None:
    """What the library alone makes of an address; None if it is none."""
    try:
        found = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return found.normalized if len(found.normalized) <= EMAIL_LIMIT else None


def taken(address: str) -> str | None:
    try:
        return Customer(email=address).email
    except ValidationError:
        return None


@given(ADDRESSES.filter(lambda address: len(address) <= EMAIL_LIMIT))
def test_an_address_is_what_the_library_says(address: str) -> None:
    assert taken(address) == closely(address)
