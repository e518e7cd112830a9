"""Every value that the codec accepts fits into the columns and indexes of every service."""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from analytics_worker.projection import project
from eventbus.consumer import parked_events
from eventbus.consumer.receive import Handlers
from eventbus.database import db
from eventbus.database.db import BY_KEY, Sessions, transaction
from eventbus.errors import ExpectedError, InvalidEvent
from eventbus.events import codec
from eventbus.events.conversion import newest
from eventbus.messaging.stream import Entry
from fraud_worker import handlers as fraud
from inventory_worker import handlers as inventory
from inventory_worker import stock
from inventory_worker.movements import Note
from notification_worker import handlers as notification
from order_app import handlers as order
from testkit.events.deliveries import deliver
from testkit.servers.databases import Databases
from tests.contract.samples import SAMPLES

HANDLERS: dict[str, Handlers] = {
    "fraud": fraud.HANDLERS,
    "inventory": inventory.HANDLERS,
    "notification": notification.HANDLERS,
    "order": order.HANDLERS,
}

#: Integers around the limits of PostgreSQL's types, and beyond all of them.
NUMBERS = [sign * n for n in (10**400, 2**63 - 1, 2**31 - 1) for sign in (1, -1)]

#: Lengths of texts around that of the longest entry of an index.
LENGTHS = (100_000, 2_800, 900, 300)

Path = list[str | int]


@pytest.fixture(scope="module")
def sessions(databases: Databases) -> Iterator[dict[str, Sessions]]:
    """Sessions on a database of each service; one SKU has as many units as fit."""
    with databases.fresh() as create:
        engines = {
            service: db.engine(create(service).service_settings, pool_size=1, session=BY_KEY)
            for service in (*HANDLERS, "analytics")
        }
        opened = {service: db.sessions(engine) for service, engine in engines.items()}
        with transaction(opened["inventory"]) as session:
            stock.count(
                session, "CHAIR-1", stock.MAX_ON_HAND, Note(reason="counted", entered_by="tests")
            )
        yield opened
        for engine in engines.values():
            engine.dispose()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_value_that_is_accepted_can_be_stored(
    sessions: dict[str, Sessions], name: str
) -> None:
    # Given an event with an extreme value
    for path in _leaves(json.loads(codec.encode(SAMPLES[name]))):
        for body in _extremes(name, path):
            # When the codec accepts it, and every service receives it
            with suppress(InvalidEvent):
                codec.read(body)
                for service, handlers in HANDLERS.items():
                    _receive(sessions[service], handlers, body)
                _project(sessions["analytics"], body)

            # Then no database rejects it


def test_the_largest_sequence_is_handled(sessions: dict[str, Sessions]) -> None:
    body = _changed("order.confirmed.v1", ["sequence"], codec.LARGEST_SEQUENCE)

    _receive(sessions["notification"], notification.HANDLERS, body)


def _receive(sessions: Sessions, handlers: Handlers, body: bytes) -> None:
    event = newest(codec.read(body))
    if type(event.data) not in handlers:
        return
    # A handler may itself reject the event, or its order may be unknown.
    with suppress(ExpectedError):
        deliver(sessions, handlers, event)
    with transaction(sessions) as session:
        parked_events.record(session, [body])


def _project(sessions: Sessions, body: bytes) -> None:
    created = json.loads(codec.encode(SAMPLES["order.created.v1"]))
    created |= {"id": str(uuid4()), "subject": json.loads(body)[1]["event"]["subject"]}
    bodies = codec.wrap(json.dumps(created).encode()), body
    with transaction(sessions) as session:
        for offset, each in enumerate(bodies):
            message: Any = SimpleNamespace(body=each, properties={}, errors=[])
            project(session, [Entry(offset, message)])


def _extremes(name: str, path: Path) -> Iterator[bytes]:
    value = _at(json.loads(codec.encode(SAMPLES[name])), path)
    if isinstance(value, int) and not isinstance(value, bool):
        yield from (_changed(name, path, number) for number in NUMBERS)
    elif isinstance(value, str):
        yield from (_changed(name, path, _text(value, length)) for length in LENGTHS)


def _text(value: str, length: int) -> str:
    # PostgreSQL compresses long texts, except random ones. The domain of an address is kept.
    characters = random.Random(length)
    _, at, domain = value.partition("@")
    room = length - len(at + domain)
    return "".join(chr(characters.randint(0x10000, 0x1F000)) for _ in range(room)) + at + domain


def _changed(name: str, path: Path, value: object) -> bytes:
    envelope = json.loads(codec.encode(SAMPLES[name])) | {"id": str(uuid4())}
    envelope["subject"] = str(uuid4())
    _at(envelope, path[:-1])[path[-1]] = value
    return codec.wrap(json.dumps(envelope).encode())


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _leaves(value: Any, path: Path | None = None) -> Iterator[Path]:
    path = path or []
    if isinstance(value, dict | list):
        steps: Any = value if isinstance(value, dict) else range(len(value))
        for step in steps:
            yield from _leaves(value[step], [*path, step])
    else:
        yield path
