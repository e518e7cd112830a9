"""One parked message in full; the message stays in place."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from console.broker.parked_message import Parked, body_text
from console.parking import lookup
from console.settings import DiscardSettings
from eventbus.messaging.untrusted import storable
from eventbus.topology.service import Service

#: Maximum number of characters of a body that are shown. An event has hundreds; another message may
#: have more.
BODY_LIMIT = 20_000


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A parked message with its headers and its body, which is formatted if it is JSON.

    `body` is None if the index has no copy of it. `as_of` is as in `lookup`.
    """

    parked: Parked
    headers: Mapping[str, str]
    body: str | None
    size: int
    is_cut: bool
    as_of: datetime | None


def show(settings: DiscardSettings, service: Service, wanted: str, digest: str = "") -> Detail:
    """Return the oldest parked message of an event.

    If `digest` is not empty, it is the SHA-256 of the wanted body. Raises `ActionError` if there is
    no such message.
    """
    found = lookup.find(settings, service, wanted, digest)
    content = lookup.only(found, service, wanted, digest)
    body = None if content.body is None else _readable(content.body)
    return Detail(
        parked=content.parked,
        headers=content.headers,
        body=body and body[:BODY_LIMIT],
        size=content.size,
        is_cut=len(body or "") > BODY_LIMIT,
        as_of=found.as_of,
    )


def _readable(content: bytes) -> str:
    body = body_text(content)
    # A large body is shown unformatted: a line for each bracket could enlarge it a thousandfold.
    with suppress(ValueError, RecursionError):
        if len(body) <= BODY_LIMIT:
            # JSON may contain lone surrogates, which a page cannot contain.
            return storable(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    return body
