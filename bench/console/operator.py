"""An operator of the console, over HTTP, and viewers of its overview."""

import re
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from deploy.local.problem import Problem

#: Requests for each page.
TIMES = 20

#: Seconds for a page, for the first message of an event stream, and for the reading of a parking
#: lot.
PATIENCE = 300.0

#: A page that does not show everything contains this text.
_INCOMPLETE = "no response within"

#: Maximum seconds for one wait. Two messages of the overview are at most a few seconds apart.
_TURN = 0.5


class Operator:
    """An administrator who is logged in."""

    def __init__(self, url: str, name: str, password: str) -> None:
        """Log in; raises `Problem` if the login is rejected."""
        self.url, self.name = url, name
        self._client = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)
        self.post("/login", name=name, password=password)

    @property
    def cookie(self) -> str:
        """The cookies of the login, as a header."""
        return "; ".join(f"{name}={value}" for name, value in self._client.cookies.items())

    def get(self, path: str) -> str:
        """Return a page; raises `Problem` unless its status is 200."""
        response = self._client.get(path)
        if response.status_code != httpx.codes.OK:
            raise Problem(
                f"{path} responds with status {response.status_code}, see the console's log"
            )
        return response.text

    def has(self, path: str) -> bool:
        """Return whether a page can be shown."""
        return self._client.get(path).status_code == httpx.codes.OK

    def post(self, path: str, **fields: str) -> str:
        """Send the form of a page with these fields, and return the address of the next page.

        Raises `Problem` if the form is rejected.
        """
        form = self.get(path).rpartition("<form")[2]
        token = re.search(r'name="token" value="([^"]*)"', form)
        response = self._client.post(path, data=fields | {"token": token[1] if token else ""})
        if response.status_code != httpx.codes.SEE_OTHER:
            raise Problem(f"{path} rejects the form with status {response.status_code}")
        return response.headers["Location"]

    def time(self, path: str) -> dict[str, Any]:
        """Return the median and the p99 of the duration of a page, in ms.

        `incomplete` is the number of responses in which a section, or the whole page, is missing.
        """
        durations, incomplete = [], 0
        for _ in range(TIMES):
            started = time.perf_counter()
            response = self._client.get(path)
            durations.append((time.perf_counter() - started) * 1000)
            is_shown = response.status_code == httpx.codes.OK
            incomplete += not is_shown or _INCOMPLETE in response.text
        return summary(durations) | {"incomplete": incomplete}

    def time_stream(self, path: str) -> dict[str, Any]:
        """Return the same for the first message of an event stream."""
        return summary([self._first_message(path) for _ in range(TIMES)]) | {"incomplete": 0}

    def _first_message(self, path: str) -> float:
        started = time.perf_counter()
        with self._client.stream("GET", path) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    return (time.perf_counter() - started) * 1000
        raise Problem(f"{path} ends without a message")

    def close(self) -> None:
        """Close the connection; the login remains."""
        self._client.close()


def summary(durations: list[float]) -> dict[str, float]:
    """Return the median and the p99 of durations, within their range."""
    cuts = statistics.quantiles(durations, n=100, method="inclusive")
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1)}


@contextmanager
def viewers(operator: Operator, path: str, number: int) -> Iterator[None]:
    """Keep this many event streams open during the block, and read their messages.

    Raises `Problem` if a viewer has received nothing.
    """
    watching = _Viewers(operator, path, number)
    thread = threading.Thread(target=watching.run, name="viewers")
    thread.start()
    try:
        yield
    finally:
        watching.is_stopped = True
        thread.join()
    if silent := number - len(watching.received):
        raise Problem(f"{silent} of {number} viewers of {path} have received no message")


class _Viewers:
    """Sockets in one thread, which only counts bytes: the load is on the console."""

    def __init__(self, operator: Operator, path: str, number: int) -> None:
        address = urlsplit(operator.url)
        self._address = (address.hostname, address.port)
        head = (f"GET {path} HTTP/1.1", f"Host: {address.netloc}", f"Cookie: {operator.cookie}")
        self._request = "\r\n".join((*head, "Accept: text/event-stream", "", "")).encode()
        self._number = number
        self._selector = selectors.DefaultSelector()
        self.received: set[int] = set()
        self.is_stopped = False

    def run(self) -> None:
        for viewer in range(self._number):
            self._open(viewer)
        while not self.is_stopped:
            for key, _ in self._selector.select(_TURN):
                self._read(key)
        for key in list(self._selector.get_map().values()):
            self._close(key)
        self._selector.close()

    def _open(self, viewer: int) -> None:
        with suppress(OSError):
            connection = socket.create_connection(self._address, timeout=PATIENCE)
            connection.sendall(self._request)
            self._selector.register(connection, selectors.EVENT_READ, viewer)

    def _read(self, key: selectors.SelectorKey) -> None:
        try:
            data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
        except OSError:
            data = b""
        if b"data: " in data:
            self.received.add(key.data)
        if not data:
            # The console closes each stream after a minute, and a browser opens another.
            self._close(key)
            self._open(key.data)

    def _close(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]
