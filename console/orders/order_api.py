"""The order API, through which the console ships and cancels orders.

The console's database role cannot write orders. Each request names the operator and is idempotent:
a request without a response can be repeated.
"""

from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx

from console.errors import ActionError, first_line
from console.http_session import HttpSession
from console.settings import ConsoleSettings
from eventbus.messaging.untrusted import text

#: Maximum seconds for the connection and for the response, which usually takes a few milliseconds.
#: A wait for a lock in the API's database ends after five seconds.
_CONNECT, _RESPONSE = 2.0, 8.0

#: The statuses of responses that concern the order or the request, rather than the API or the
#: console.
_OF_THE_ORDER = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}

#: Maximum number of characters of a problem that are shown.
_LIMIT = 300


class NotChanged(ActionError):
    """The API has not confirmed the change. `status` is for the page that shows the error."""

    def __init__(self, message: str, status: int = HTTPStatus.SERVICE_UNAVAILABLE) -> None:
        super().__init__(message)
        self.status = status


class OrderApi(HttpSession):
    """A session with the order API; its methods raise `NotChanged`."""

    def __init__(self, settings: ConsoleSettings) -> None:
        """Raise `NotChanged` if the address or the key of the API is not set."""
        if settings.order_api_url is None or settings.order_api_key is None:
            raise NotChanged(
                "ORDER_API_URL and ORDER_API_KEY are not set: the console cannot change orders."
                " Use orderctl orders cancel or ship."
            )
        self._address = str(settings.order_api_url).rstrip("/")
        super().__init__(
            base_url=self._address,
            headers={"Authorization": f"Bearer {settings.order_api_key.get_secret_value()}"},
            timeout=httpx.Timeout(_RESPONSE, connect=_CONNECT),
        )

    def cancel(self, order_id: UUID, *, reason: str, operator: str) -> str:
        """Cancel an order, unless an operator has already cancelled it, and return its status."""
        return self._put(order_id, "cancellation", reason=reason, operator=operator)

    def ship(self, order_id: UUID, *, operator: str) -> str:
        """Mark an order as shipped, unless it is already shipped, and return its status."""
        return self._put(order_id, "shipment", operator=operator)

    def _put(self, order_id: UUID, change: str, **body: str) -> str:
        try:
            response = self._client.put(f"/orders/{order_id}/{change}", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotChanged(
                f"The order API at {self._address} cannot be reached: {first_line(error)}."
                " The order is unchanged."
            ) from None
        except httpx.HTTPError as error:
            raise NotChanged(
                f"The order API at {self._address} did not respond: {first_line(error)}. The order"
                " may have changed: repeat the action, which has no second effect."
            ) from None
        document = _document(response)
        if response.status_code == HTTPStatus.OK and "status" in document:
            return text(document["status"])
        if response.status_code in _OF_THE_ORDER:
            raise NotChanged(_problem(response, document), response.status_code)
        raise NotChanged(_problem(response, document))


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _problem(response: httpx.Response, document: dict[str, Any]) -> str:
    match response.status_code:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return (
                f"The order API rejects the console's key: {_detail(document)} Register the key:"
                " orderctl keys register console --scope orders:operate."
            )
        case HTTPStatus.CONFLICT | HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return f"The order is unchanged. {_detail(document)}"
        case HTTPStatus.NOT_FOUND if document:
            return "The order does not exist."
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return f"The order is unchanged. {_fields(document) or _detail(document)}"
        case status:
            return f"The order API responds with status {status}. {_detail(document)}".rstrip()


def _detail(document: dict[str, Any]) -> str:
    return text(document.get("detail", ""), _LIMIT)


def _fields(document: dict[str, Any]) -> str:
    errors = document.get("errors")
    if not isinstance(errors, list):
        return ""
    problems = [
        f"{error.get('field')}: {error.get('message')}"
        for error in errors
        if isinstance(error, dict)
    ]
    return text("; ".join(problems), _LIMIT)
