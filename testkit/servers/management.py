"""The management API of RabbitMQ, addressed by the parts of a path."""

from typing import Any
from urllib.parse import quote

import httpx

from eventbus import tls
from testkit.eventually import PATIENCE
from testkit.servers.vhosts import Vhost


class Management:
    """A client with the rights of the administrator of one vhost."""

    def __init__(self, vhost: Vhost) -> None:
        self.vhost = vhost.name
        self._client = httpx.Client(
            base_url=f"{vhost.management_url}/api",
            auth=(vhost.admin_user, vhost.admin_password),
            timeout=PATIENCE,
            verify=tls.http_context(vhost.ca_file),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, method: str, *path: str, **body: Any) -> httpx.Response:
        """Send a request for an object of the vhost, such as `("GET", "queues", "order.queue")`."""
        return self.send_global(method, path[0], self.vhost, *path[1:], **body)

    def send_global(self, method: str, *path: str, **body: Any) -> httpx.Response:
        """Send a request for an object outside vhosts. Only `GET` may receive an error status."""
        address = "/".join(quote(part, safe="") for part in path)
        response = self._client.request(method, address, json=body or None)
        if method != "GET":
            response.raise_for_status()
        return response
