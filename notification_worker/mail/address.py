"""Email addresses in the form that every mail server accepts."""

from email.headerregistry import Address
from email.utils import parseaddr

from email_validator import EmailNotValidError, validate_email


def ascii_domain(address: str) -> str:
    """Return the address with its domain in ASCII, which any mail server can route.

    Raises `ValueError` if it is not an address, for example because it contains a line break. The
    message quotes the address.
    """
    try:
        # Only the form is checked: the mail server decides whether the address exists.
        valid = validate_email(
            address,
            check_deliverability=False,
            globally_deliverable=False,
            test_environment=True,
        )
    except EmailNotValidError as error:
        raise ValueError(f"not an email address: {error}") from None
    return f"{valid.local_part}@{valid.ascii_domain}"


def sender(text: str) -> Address:
    """Return the address in `Name <name@domain>` or `name@domain`; the default name is the domain.

    Raises `ValueError` if the text is neither.
    """
    if not text.isprintable():
        raise ValueError("contains a line break or another control character")
    name, address = parseaddr(text)
    spec = ascii_domain(address)
    return Address(display_name=name or spec.rpartition("@")[2], addr_spec=spec)
