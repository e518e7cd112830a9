"""The page of orders from which an operator has started a repair, and to which the result leads."""

from uuid import UUID

from flask import request, url_for

#: The field of links and forms: the id of an order, or `LIST`.
FIELD = "order"

#: The value of the field on the list of orders.
LIST = "all"


def entered() -> str:
    """Return the field of the current request if it is valid, or an empty text."""
    value = request.values.get(FIELD, "")
    if value == LIST:
        return value
    try:
        return str(UUID(value))
    except ValueError:
        return ""


def page() -> str | None:
    """Return the address of the page that the current request names, or None."""
    match entered():
        case "":
            return None
        case "all":
            return url_for("orders.show")
        case order_id:
            return url_for("orders.show", id=order_id)
