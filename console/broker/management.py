"""The part of RabbitMQ's management HTTP API that operators need."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from console.errors import ActionError, first_line
from console.http_session import HttpSession
from console.settings import BrokerAdminSettings
from eventbus import tls

#: Maximum seconds for each request, of which declaring a quorum queue is the slowest.
_TIMEOUT = 15.0

#: The text in the API's error while a process inside the broker restarts, such as the process that
#: dead-letters for quorum queues. Every request of this module can be repeated.
_RESTARTING = "Request to node"
_RETRIES, _RETRY_DELAY = 5, 1.0


class Management(HttpSession):
    """A session with the API; every method raises `ActionError` if the request fails."""

    def __init__(self, settings: BrokerAdminSettings) -> None:
        self.vhost = settings.broker_vhost
        self.user = settings.broker_admin_user
        #: The addresses of the nodes; the address in use comes first.
        self._addresses = deque(str(url).rstrip("/") for url in settings.broker_admin_url)
        super().__init__(
            auth=(self.user, settings.broker_admin_password.get_secret_value()),
            timeout=_TIMEOUT,
            verify=tls.http_context(settings.broker_ca_file),
        )

    @property
    def _address(self) -> str:
        return self._addresses[0]

    def has_vhost(self) -> bool:
        """Return whether the vhost exists."""
        return any(vhost["name"] == self.vhost for vhost in self.get("vhosts"))

    def get(self, *path: str, query: str = "") -> Any:
        """Return the JSON document at a path."""
        answer = self.send("GET", *path, query=query)
        try:
            return answer.json()
        except ValueError:
            raise ActionError(f"{self._address} is not a RabbitMQ management API") from None

    def alarms(self) -> set[tuple[str, str]]:
        """Return each alarm in effect: the node, and `memory` or `disk`.

        The API reports alarms with an error status, even if it has no statistics.
        """
        answer = self._request("GET", "health/checks/alarms", None)
        if answer.is_success:
            return set()
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            raise ActionError(self._rejection("GET", "health/checks/alarms", answer))
        # The API calls a disk "disk space".
        return {
            (entry["node"], entry["resource"].partition(" ")[0])
            for entry in answer.json().get("alarms", ())
        }

    def send(
        self, method: str, *path: str, body: Mapping[str, Any] | None = None, query: str = ""
    ) -> httpx.Response:
        """Send a request; each part of `path` is one name and may contain any character."""
        address = "/".join(quote(part, safe="") for part in path) + query
        answer = self._request(method, address, body)
        for _ in range(_RETRIES):
            if not (answer.is_error and _RESTARTING in answer.text):
                break
            time.sleep(_RETRY_DELAY)
            answer = self._request(method, address, body)
        if answer.is_error:
            raise ActionError(self._rejection(method, address, answer))
        return answer

    def _request(self, method: str, address: str, body: Mapping[str, Any] | None) -> httpx.Response:
        problems = []
        for _ in range(len(self._addresses)):
            try:
                return self._client.request(method, f"{self._address}/api/{address}", json=body)
            except httpx.HTTPError as error:
                reason = first_line(error)
                problems.append(f"the broker at {self._address} does not respond: {reason}")
                # Start later requests with the next node.
                self._addresses.rotate(-1)
        raise ActionError("; ".join(problems))

    def _rejection(self, method: str, address: str, answer: httpx.Response) -> str:
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return (
                f"the broker at {self._address} rejects user {self.user}: "
                "check BROKER_ADMIN_USER, BROKER_ADMIN_PASSWORD and its tag administrator"
            )
        try:
            reason = answer.json()["reason"]
        except (ValueError, KeyError, TypeError):
            reason = answer.reason_phrase
        return f"the broker at {self._address} rejects {method} {address}: {reason}"
