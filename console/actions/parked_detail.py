"""Shows all of one parked message; it stays where it is."""

import json
from contextlib import suppress
from dataclasses import dataclass

from common.kombu_topology import Service
from console.errors import ActionError
from console.parked_message import Parked, event_id
from console.parking_lot import parking_lot
from console.settings import BrokerAdminSettings

#: Characters of a body that are shown: an event has hundreds, a stranger's message may have more.
BODY_LIMIT = 20_000


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A parked message with what it carries, readable if it is JSON."""

    parked: Parked
    headers: dict[str, str]
    body: str
    is_cut: bool


def show(settings: BrokerAdminSettings, service: Service, wanted: str) -> Detail:
    """Return the oldest parked message of an event. Raises `ActionError` when there is none."""
    found = None
    with parking_lot(settings, service) as lot:
        # To the end, so that all go back together and keep their order.
        for message in lot.messages():
            if found is None and event_id(message) == wanted:
                found = message
    if found is None:
        raise ActionError(f"not parked by {service.name}: {wanted}")
    body = _readable(found.body)
    return Detail(
        parked=Parked.of(service, found),
        headers={name: str(value) for name, value in sorted((found.headers or {}).items())},
        body=body[:BODY_LIMIT],
        is_cut=len(body) > BODY_LIMIT,
    )


def _readable(body: bytes | str) -> str:
    with suppress(ValueError):
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return body.decode(errors="replace") if isinstance(body, bytes) else body
