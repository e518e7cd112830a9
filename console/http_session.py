"""The base of a session with an HTTP API."""

from typing import Any, Self

import httpx


class HttpSession:
    """A session with an HTTP API. The end of the `with` block closes its connections.

    Several threads can use a session.
    """

    def __init__(self, **options: Any) -> None:
        """Connect at the first request; `options` are passed to `httpx.Client`."""
        # A proxy that is set in the environment must not be used for servers of this system.
        self._client = httpx.Client(trust_env=False, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
