"""An address that the API accepts is valid for the library, and for the service that emails it."""

from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from notification_worker.mail.address import ascii_domain
from order_app.http.requests import EMAIL_LIMIT, Customer

PARTS = st.lists(
    st.sampled_from(["a", "Ann", "x+y", "_", "-", "", "é", "1", "test", "local", "xn--9ca"]),
    max_size=4,
).map(".".join)
LONG = st.integers(1, EMAIL_LIMIT).map(lambda length: "a" * length)
LABELS = st.sampled_from(["a", "xn--mnchen-3ya", "münchen"])
DOMAINS = (
    PARTS
    | st.sampled_from(["example.com", "EXAMPLE.com", "münchen.de", "xn--mnchen-3ya.de"])
    | st.lists(LABELS, min_size=1, max_size=20).map(lambda labels: ".".join([*labels, "de"]))
)
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


@given(ADDRESSES.filter(lambda address: len(address) <= EMAIL_LIMIT))
def test_an_accepted_address_can_be_emailed(address: str) -> None:
    accepted = by_api(address)

    # The notification service parks an event whose address it rejects.
    assert accepted is None or ascii_domain(accepted)
