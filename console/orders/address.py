"""Customers' addresses: masked in lists, and parsed from operators' input."""

from pydantic import TypeAdapter, ValidationError

from console.errors import ActionError
from order_app.http.requests import Email

_email: TypeAdapter[str] = TypeAdapter(Email)


def masked(address: str) -> str:
    """Return an address masked except for its first letter and its domain."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def entered(text: str) -> str:
    """Return an address that an operator has entered, in the form in which the API stores it.

    Raises `ActionError` if the text is not an address. The error does not repeat the text.
    """
    try:
        return _email.validate_python(text.strip())
    except ValidationError:
        raise ActionError("the email address is invalid: enter it in full") from None
