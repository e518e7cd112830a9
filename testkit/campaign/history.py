"""The history of a campaign: each request of a client, and its effect according to the response."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Action(StrEnum):
    """The operation that a request performs on an order."""

    PLACE = "place"
    CANCEL = "cancel"
    SHIP = "ship"


class Outcome(StrEnum):
    """The effect of a request, according to its response."""

    OK = "ok"
    #: The request had no effect.
    FAILED = "failed"
    #: It may have had an effect: the response is missing, or reports that the outcome is unknown.
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request with all its attempts. Times are in seconds since the epoch."""

    action: Action
    outcome: Outcome
    #: The customer's address, which is unique for each order that is placed.
    email: str = ""
    #: The id of the order, which is known after a placement that is OK, and before every other
    #: request.
    order_id: str = ""
    #: The statuses of the responses, in order; 0 for an attempt without a response.
    statuses: tuple[int, ...] = ()
    began: float
    ended: float


class History:
    """The requests, in the order in which they ended. Several clients append concurrently."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def append(self, request: Request) -> None:
        """Record a request that has ended."""
        with self._lock:
            self._requests.append(request)

    @property
    def requests(self) -> Sequence[Request]:
        """The requests so far."""
        with self._lock:
            return tuple(self._requests)

    def of(self, action: Action) -> list[Request]:
        """Return the requests of one action."""
        return [request for request in self.requests if request.action is action]

    def placed(self) -> list[str]:
        """Return the ids of the orders that are known to be placed, the oldest first."""
        return [r.order_id for r in self.of(Action.PLACE) if r.outcome is Outcome.OK]

    def write(self, file: Path) -> None:
        """Write a line of JSON for each request."""
        lines = (json.dumps(asdict(request)) + "\n" for request in self.requests)
        file.write_text("".join(lines))
