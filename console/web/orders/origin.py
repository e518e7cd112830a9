"""The page of orders from which an operator has started a repair, and to which the result leads.

Links and forms contain it in the field `order`: the id of an order, or `LIST`.
"""

from uuid import UUID

from flask import request, url_for

#: The value of the field on the list of orders.
LIST = "all"


def entered() -> str:
    """Return the field of the current request if it is valid, or an empty string."""
    value = request.values.get("order", "")
    if value == LIST:
        return value
    try:
        return str(UUID(value))
    except ValueError:
        return ""


def page() -> str | None:
    """Return the address of the page that the current request names, or None."""
    if not (value := entered()):
        return None
    return url_for("orders.show", id=None if value == LIST else value)
