"""The history that `make bench` seeds is consistent with what the services would have written."""

import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bench.load import seeding
from bench.system.servers import execute
from eventbus.events import codec
from testkit.servers.databases import TestDatabase

ROWS = 1_000
NOTHING_WAITS = "SELECT count(*) FROM outbox WHERE sent_at IS NULL OR sent_at > now()"


def test_the_seeded_history_has_valid_finished_events(
    database_of: Callable[[str], TestDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given empty databases of two services
    stack = SimpleNamespace(databases={name: database_of(name) for name in ("order", "inventory")})
    monkeypatch.setattr(seeding, "CHUNK", 300)
    progress: list[str] = []

    # When a history is seeded
    with seeding.past(stack, ROWS, progress.append):
        # Then its events are valid, sent and handled
        for service, event_type in (("order", "order.created"), ("inventory", "stock.reserved")):
            outbox = execute(stack, service, "SELECT event_id, subject, type, event FROM outbox")
            events = [codec.decode(json.loads(envelope)) for *_, envelope in outbox]
            assert [(e.id, e.subject, e.type) for e in events] == [row[:3] for row in outbox]
            assert len({event.id for event in events}) == ROWS
            assert {event.type for event in events} == {event_type}
            assert execute(stack, service, NOTHING_WAITS) == [(0,)]
        for service, source in (("order", "inventory"), ("inventory", "order")):
            inbox = "SELECT count(*), min(source), max(handled_at) < now() FROM inbox"
            assert execute(stack, service, inbox) == [(ROWS, source, True)]
        assert execute(stack, "order", "SELECT DISTINCT status FROM orders") == [("CONFIRMED",)]
        assert execute(stack, "inventory", "SELECT count(*) FROM reservations") == [(ROWS // 10,)]

    # And nothing remains afterwards
    assert execute(stack, "order", "SELECT count(*) FROM outbox") == [(0,)]
    assert any("order outbox: 1,000 of 1,000 rows" in line for line in progress)
