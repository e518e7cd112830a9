"""One parked message in full; the message stays in place."""

import json
from contextlib import suppress
from dataclasses import dataclass

from amqp import Message

from console.broker.other_readers import unread
from console.broker.parked_message import Parked, body_text, event_id
from console.broker.parked_message import digest as digest_of
from console.broker.parking_lot import parking_lot
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.messaging.untrusted import storable, text
from eventbus.topology.service import Service

#: Maximum number of characters of a body that are shown. An event has hundreds; another message may
#: have more.
BODY_LIMIT = 20_000

#: Maximum number of characters of a header that are shown.
HEADER_LIMIT = 4_000


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A parked message with its headers and its body, which is formatted if it is JSON."""

    parked: Parked
    headers: dict[str, str]
    body: str
    is_cut: bool


def show(settings: BrokerAdminSettings, service: Service, wanted: str, digest: str = "") -> Detail:
    """Return the oldest parked message of an event.

    If `digest` is not empty, it is the SHA-256 of the wanted body. Raises `ActionError` if there is
    no such message.
    """
    with parking_lot(settings, service) as lot:
        named = (one for one in lot.scan() if event_id(one) == wanted)
        message = next((one for one in named if digest in ("", digest_of(one))), None)
        others = "" if message else unread(settings, service, lot)
    if message is None:
        problem = f"not parked by {service.name}: {text(wanted)}"
        raise ActionError(f"{problem}; {others}" if others else problem)
    body = _readable(message)
    headers = (message.headers or {}).items()
    return Detail(
        parked=Parked.of(service, message),
        headers=dict(sorted((text(name), text(value, HEADER_LIMIT)) for name, value in headers)),
        body=body[:BODY_LIMIT],
        is_cut=len(body) > BODY_LIMIT,
    )


def _readable(message: Message) -> str:
    body = body_text(message)
    # A large body is shown unformatted: a line for each bracket could enlarge it a thousandfold.
    with suppress(ValueError, RecursionError):
        if len(body) <= BODY_LIMIT:
            # JSON may contain lone surrogates, which a page cannot contain.
            return storable(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    return body
