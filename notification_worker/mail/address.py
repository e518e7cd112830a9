"""Mail addresses, in the form in which every mail server takes them."""

from email.headerregistry import Address
from email.utils import parseaddr

from email_validator import EmailNotValidError, validate_email


def ascii_domain(address: str) -> str:
    """Return the address with its domain in ASCII, so that any mail server can route it.

    Raises `ValueError` if it is no address; a line break, for one, is never part of one.
    """
    try:
        # Form only: whether the address exists is for the mail server to say.
        valid = validate_email(
            address,
            check_deliverability=False,
            globally_deliverable=False,
            test_environment=True,
        )
    except EmailNotValidError as error:
        raise ValueError(f"not a mail address: {error}") from None
    return f"{valid.local_part}@{valid.ascii_domain}"


def sender(text: str) -> Address:
    """Return the address in `Name <name@domain>` or `name@domain`; without a name, its domain.

    Raises `ValueError` if the text is neither.
    """
    if not text.isprintable():
        raise ValueError("has a line break or another control character")
    name, address = parseaddr(text)
    spec = ascii_domain(address)
    return Address(display_name=name or spec.rpartition("@")[2], addr_spec=spec)
