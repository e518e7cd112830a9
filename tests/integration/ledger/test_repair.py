"""`orderctl reconcile`: its exit status, its report, and the repair of what is missing."""

import json

import pytest

from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION
from console.ledger.books import Books
from console.ledger.repair import republish
from testkit.data.accounted import AccountedSystem
from testkit.events.messages import ids
from testkit.eventually import becomes
from testkit.processes.orderctl import orderctl

SEARCH = ("reconcile", "--wait", "60", "--pause", "0")


def test_nothing_missing_is_success(system: AccountedSystem) -> None:
    result = orderctl(system.environment, *SEARCH)

    assert result.exit_code == 0, result.output
    assert "all events are accounted for" in result.stdout


def test_missing_events_are_listed_and_the_status_is_1(system: AccountedSystem) -> None:
    # Given two lost events
    lost = system.publish(2)
    system.purge(INVENTORY)
    system.handle_all()

    # When the ledger is read
    result = orderctl(system.environment, *SEARCH, "--json")

    # Then the document names them
    document = json.loads(result.stdout)
    assert (result.exit_code, document["accounted"]) == (1, False)
    (inventory,) = (s for s in document["services"] if s["service"] == "inventory")
    assert inventory["missing"] == 2
    assert [e["id"] for e in inventory["missing_events"]] == [str(i) for i in lost]
    assert {e["type"] for e in inventory["missing_events"]} == {"order.created"}
    # And it contains no data of customers
    assert "@" not in result.stdout


def test_repair_delivers_exactly_the_missing_events(system: AccountedSystem) -> None:
    # Given an event that two services lack, and one that a single service lacks
    lost = system.publish(2)
    system.purge(INVENTORY)
    system.handle(NOTIFICATION, 1)
    system.purge(NOTIFICATION)
    system.handle_all()

    # When they are repaired
    result = orderctl(system.environment, *SEARCH, "--repair", "--yes", "--json")

    # Then each is in the queue of the service that lacks it, and in no other
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["repaired"]) == 3
    assert ids(system.broker.messages(INVENTORY.queue)) == lost
    assert ids(system.broker.messages(NOTIFICATION.queue)) == lost[1:]
    becomes(lambda: system.broker.depth(FRAUD.queue), 0)
    # And the next run finds nothing to repair once they are handled
    system.handle_all()
    again = orderctl(system.environment, *SEARCH, "--repair", "--yes", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["repaired"] == []


def test_a_repaired_message_equals_that_of_the_relay(system: AccountedSystem) -> None:
    # Given the message of a relay, which is then lost
    system.publish(1)
    (sent,) = system.broker.messages(INVENTORY.queue)
    system.purge(INVENTORY)
    system.handle_all()

    # When it is repaired
    orderctl(system.environment, *SEARCH, "--repair", "--yes")

    # Then body, headers and properties are the same, except those of the publishing itself
    (repaired,) = system.broker.messages(INVENTORY.queue)
    assert repaired.body == sent.body
    ours = {"traceparent"} | {name for name in repaired.headers if name.startswith("x-")}
    headers = {name: v for name, v in repaired.headers.items() if name not in ours}
    assert headers.items() <= sent.headers.items()
    assert headers.keys() >= {"task", "id", "retries", "lang"}
    for name in ("message_id", "correlation_id", "type", "app_id", "delivery_mode"):
        assert repaired.properties[name] == sent.properties[name]


def test_an_event_that_was_handled_meanwhile_is_not_published(system: AccountedSystem) -> None:
    # Given two missing events, one of which is handled after the search
    first, second = system.publish(2)
    system.purge(INVENTORY)
    system.handle_all()
    account = system.accounts()[INVENTORY.name]
    system.deliver(INVENTORY, next(e for e in system.events() if e.id == first))

    # When they are repaired
    with Books.opened(system.settings) as books:
        published = list(republish(system.settings, books, [account]))

    # Then only the other is published
    assert [one.event.id for one in published] == [second]
    assert ids(system.broker.messages(INVENTORY.queue)) == [second]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_repair_asks_for_confirmation(system: AccountedSystem, answer: str) -> None:
    system.publish(1)
    system.purge(INVENTORY)
    system.handle_all()

    result = orderctl(system.environment, *SEARCH, "--repair", answer=answer)

    assert result.exit_code == 1
    assert "publish 1 missing events again?" in result.stderr
    becomes(lambda: system.broker.depth(INVENTORY.queue), 0)


def test_an_unreachable_broker_is_status_2(system: AccountedSystem) -> None:
    system.publish(1)

    result = orderctl({**system.environment, "BROKER_PORT": "1"}, *SEARCH)

    assert result.exit_code == 2
    assert "127.0.0.1:1" in result.stderr


@pytest.mark.parametrize("age", ["0m", "yesterday", "-1h", "5"])
def test_a_wrong_age_is_an_invalid_argument(system: AccountedSystem, age: str) -> None:
    result = orderctl(system.environment, "reconcile", f"--since={age}")

    assert result.exit_code == 64
    assert "--since" in result.stderr
