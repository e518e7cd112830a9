"""Good, failing and malformed messages in the same batches, while the worker is killed."""

import random
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select
from uuid_utils.compat import uuid7

from common.events import Line, OrderCreated
from eventbus.consumer.inbox import inbox
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing
from inventory_worker.models import Reservation
from testkit.eventually import becomes, eventually
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import Stack

#: The number of messages of each kind in a thousand; all others are good. The failing inventory
#: acts on these names.
MIXTURE = {"twice": 10, "always": 3, "permanent": 5, "kill": 1, "duplicate": 30, "undecodable": 5}

#: How often the whole worker is killed: a message survives five such deliveries.
KILLS = 3

BATCH = 1_000


@pytest.mark.timeout(1_800)
def test_a_mixture_of_messages_is_handled_or_parked(
    stack: Stack, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    # Given a mixture of messages in the inventory's queue
    rng = random.Random(1)
    (tmp_path / "attempts").mkdir()
    stack.extra["ATTEMPTS"] = str(tmp_path / "attempts")
    total = pytestconfig.getoption("mixture")
    stack.stock(TEA=total)
    kinds = _kinds(total, rng)
    _publish(stack, kinds, rng)
    count = Counter(kinds.values())
    undecodable = total * MIXTURE["undecodable"] // 1000

    # When the worker that handles them is killed several times
    module = "testkit.programs.failing.inventory_worker"
    for _ in range(KILLS):
        stack.start("inventory-worker", module=module)
        time.sleep(rng.uniform(0.5, 2))
        stack.kill("inventory-worker")
    stack.start("inventory-worker", module=module)

    # Then each message that can be handled has had one effect
    good = {order for order, kind in kinds.items() if kind in ("good", "twice")}

    def handled() -> None:
        with transaction(stack.sessions("inventory")) as session:
            assert set(session.scalars(select(Reservation.order_id))) == good

    eventually(handled, progress=lambda: stack.reserved("TEA"))
    assert stack.reserved("TEA") == len(good)
    with transaction(stack.sessions("inventory")) as session:
        assert session.scalar(select(func.count()).select_from(inbox)) == len(good)

    # And every other message is parked, and the queue is empty. A message has two copies if its
    # worker was killed between the confirm of a copy and the settlement of the original.
    parked = count["always"] + count["permanent"] + count["kill"] + undecodable
    eventually(lambda: _assert_parked(stack, parked))
    becomes(lambda: stack.vhost.depth("inventory.queue"), 0)


def _kinds(total: int, rng: random.Random) -> dict[UUID, str]:
    kinds = [
        kind
        for kind in ("twice", "always", "permanent", "kill")
        for _ in range(total * MIXTURE[kind] // 1000)
    ]
    kinds += ["good"] * (total - len(kinds))
    rng.shuffle(kinds)
    return {uuid7(): kind for kind in kinds}


def _publish(stack: Stack, kinds: dict[UUID, str], rng: random.Random) -> None:
    publisher = stack.publisher()
    events = [_event(order, kind) for order, kind in kinds.items()]
    # Not failing messages: a failing message that is published twice is parked twice.
    handled = [e for e in events if kinds[e.subject] in ("good", "twice")]
    repeated = [e for e in handled if rng.randrange(1000) < MIXTURE["duplicate"]]
    outgoing = [Outgoing(e.id, e.type, codec.encode(e).decode(), e.subject) for e in events]
    for start in range(0, len(outgoing), BATCH):
        report = publish_and_settle(publisher, outgoing[start : start + BATCH])
        assert len(report.confirmed) == len(outgoing[start : start + BATCH]), report
        for _ in range(BATCH * MIXTURE["undecodable"] // 1000):
            stack.vhost.publish(
                b"{not json",
                exchange="",
                routing_key="inventory.queue",
                headers={"task": "order.created", "id": str(uuid7()), "retries": 0},
            )
    again = [Outgoing(e.id, e.type, codec.encode(e).decode(), e.subject) for e in repeated]
    assert not publish_and_settle(publisher, again).error
    publisher.close()


def _event(order_id: UUID, kind: str) -> Event:
    data = OrderCreated(
        customer_email=f"{kind}@example.com",
        currency="EUR",
        total=500,
        lines=(Line(sku="TEA", quantity=1, unit_price=500),),
    )
    return Event(source="order", subject=order_id, sequence=1, data=data)


def _assert_parked(stack: Stack, expected: int) -> None:
    ids = {message.headers["id"] for message in stack.vhost.messages("inventory.dlq")}
    assert len(ids) == expected
