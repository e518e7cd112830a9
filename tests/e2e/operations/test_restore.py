"""A database that is restored from a backup beside running services, and its healing."""

from pathlib import Path

import pytest

from common.kombu_topology import SERVICES
from testkit.eventually import becomes, eventually
from testkit.processes.stack import Stack
from testkit.system.set_back import SetBack, programs


@pytest.fixture
def shop(stack: Stack, tmp_path: Path) -> SetBack:
    """A running shop whose databases can be restored from backups."""
    opened = SetBack(stack, tmp_path)
    opened.open()
    return opened


@pytest.mark.parametrize("service", ["inventory", "notification", "fraud"])
def test_a_consumer_that_was_set_back_catches_up(shop: SetBack, service: str) -> None:
    # Given a backup of its database, taken under orders, and more orders
    with shop.orders():
        shop.wait_for(20)
        backup = shop.back_up(service)
        shop.wait_for(40)
    shop.settle()
    handled, decisions = shop.event_ids(service, "inbox"), shop.decisions()
    published = shop.event_ids(service, "outbox") if service != "notification" else set()

    # When the backup is restored
    shop.stop(service)
    backup.restore()

    # Then the check names exactly the events that the database lacks
    found = shop.check()
    (condition,) = (each for each in found.conditions if each.is_behind)
    assert found.behind == [service]
    assert condition.account
    missing = {event.id for event in condition.account.missing}
    assert missing == handled - shop.event_ids(service, "inbox") != set()
    if published:
        assert set(condition.lost.ids) == published - shop.event_ids(service, "outbox") != set()

    # And when it is healed beside new orders, and its processes start
    shop.place()
    healed = shop.heal(service)
    shop.start(service)
    shop.settle()

    # Then each decision is as before, each effect exists once, and the services agree
    assert healed.restored == condition.lost.count
    assert healed.delivered >= len(missing)
    assert shop.decisions().items() >= decisions.items()
    assert handled <= shop.event_ids(service, "inbox")
    assert shop.violations() == []
    assert shop.check().behind == []


def test_analytics_that_were_set_back_read_the_stream_again(shop: SetBack) -> None:
    # Given a backup of the analytics service, taken under orders, and more orders
    with shop.orders():
        shop.wait_for(20)
        backup = shop.back_up("analytics")
        shop.wait_for(20)
    shop.settle()

    # When the backup is restored, then no event is lost: the position is older as well
    shop.stop("analytics")
    backup.restore()
    assert shop.check("analytics").behind == []

    # And when the reader starts, then the figures are complete
    shop.start("analytics")
    shop.settle()
    assert shop.violations() == []


def test_orders_that_were_set_back_are_decided_as_before(shop: SetBack) -> None:
    # Given a backup of the order database, taken under orders, and more orders
    with shop.orders():
        shop.wait_for(20)
        backup = shop.back_up("order")
        shop.wait_for(40)
    shop.settle()
    decisions = shop.decisions()
    published, handled = shop.event_ids("order", "outbox"), shop.event_ids("order", "inbox")
    # And an order whose decision is stored, and not published
    shop.stack.shut_down("order-worker")
    undecided = shop.place()
    becomes(lambda: shop.replied(undecided), ["RESERVED"])
    eventually(lambda: shop.require_sent("inventory"))
    shop.stack.shut_down("order-relay")
    shop.stack.start("order-worker")
    assert shop.stack.decided(undecided) == ("CONFIRMED", None)

    # When the backup is restored
    shop.stop("order")
    backup.restore()

    # Then the check names exactly the events and the orders that the database lacks
    found = shop.check()
    (condition,) = (each for each in found.conditions if each.is_behind)
    assert found.behind == ["order"]
    lost = published - shop.event_ids("order", "outbox")
    assert set(condition.lost.ids) > lost != set()
    assert len(condition.lost.ids) == len(lost) + 1
    absent = set(shop.ids) - shop.decisions().keys()
    assert {str(each) for each in condition.orphans["inventory"].ids} == absent != set()

    # And when it is healed, and its processes start
    healed = shop.heal("order")
    shop.start("order")
    assert shop.stack.decided(undecided) == ("CONFIRMED", None)
    shop.place()
    shop.settle()

    # Then each decision is as before, each effect exists once, and the services agree
    assert healed.restored == condition.lost.count
    assert shop.decisions().items() >= decisions.items()
    assert published <= shop.event_ids("order", "outbox")
    assert handled <= shop.event_ids("order", "inbox")
    assert shop.violations() == []
    assert shop.check().behind == []


def test_events_of_a_lost_broker_are_delivered_again(shop: SetBack) -> None:
    # Given events that are in queues, because two workers are down
    with shop.orders():
        shop.wait_for(20)
    shop.settle()
    shop.stack.shut_down("inventory-worker")
    shop.stack.shut_down("notification-worker")
    waiting = [shop.place() for _ in range(10)]
    eventually(lambda: shop.require_sent("order"))
    for service in ("order", "fraud"):
        eventually(lambda name=service: shop.require_sent(name))

    # When the broker loses its data, while the API accepts orders
    for service in SERVICES:
        for program in programs(service.name):
            if program != "api" and shop.stack.is_running(program):
                shop.stack.shut_down(program)
    shop.stack.shut_down("beat")
    shop.lose_broker()
    shop.place()

    # Then the check names the queues
    assert "inventory.queue" in shop.check().lost_queues

    # And when it is healed, then each event is delivered to the services that lacked it
    healed = shop.heal_broker()
    assert healed.delivered >= 2 * len(waiting)
    shop.stack.start("beat")
    for service in SERVICES:
        shop.stack.start(*(each for each in programs(service.name) if each != "api"))
    shop.settle()
    assert shop.violations() == []
    assert shop.check().behind == []
