"""`orderctl topology` and `orderctl parked` on a real broker."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pytest
from amqp import Channel, Message
from click.testing import CliRunner, Result

from common.kombu_topology import SERVICES, topology
from console.orderctl import main
from eventbus import tls
from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from eventbus.settings.base import SettingsError
from eventbus.topology.limits import DELIVERY_LIMIT
from testkit.data.migrated import services_are
from testkit.eventually import eventually
from testkit.servers.vhosts import Vhost

T = TypeVar("T")


class Broker:
    """The management API, as the administrator of one vhost."""

    def __init__(self, vhost: Any) -> None:
        self.vhost = vhost.name
        self._client = httpx.Client(
            base_url=f"{vhost.management_url}/api",
            auth=(vhost.admin_user, vhost.admin_password),
            timeout=10,
            verify=tls.http_context(vhost.ca_file),
        )

    def close(self) -> None:
        self._client.close()

    def send(self, method: str, *path: str, **body: Any) -> httpx.Response:
        """Send a request for an object of the vhost."""
        return self.send_global(method, path[0], self.vhost, *path[1:], **body)

    def send_global(self, method: str, *path: str, **body: Any) -> httpx.Response:
        """Send a request for an object that belongs to no vhost."""
        address = "/".join(quote(part, safe="") for part in path)
        answer = self._client.request(method, address, json=body or None)
        if method != "GET":
            answer.raise_for_status()
        return answer


@pytest.fixture
def broker(vhost: Any) -> Iterator["Broker"]:
    client = Broker(vhost)
    yield client
    client.close()


def orderctl(env: dict[str, str], *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=env, input=answer)


def differences(env: dict[str, str]) -> list[str]:
    result = orderctl(env, "topology", "plan", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (2 if document["drift"] else 0)
    return [f"{d['kind']} {d['name']}: {d['problem']}" for d in document["differences"]]


@pytest.fixture
def applied(broker: Broker, operator_env: dict[str, str]) -> dict[str, str]:
    """The environment of a broker that is as the code says."""
    result = orderctl(operator_env, "topology", "apply")
    assert result.exit_code == 0, result.output
    return operator_env


def test_an_empty_vhost_gets_everything_and_then_nothing_more(
    broker: Broker, applied: dict[str, str]
) -> None:
    assert differences(applied) == []
    again = orderctl(applied, "topology", "apply")

    assert (again.exit_code, again.stdout) == (0, "topology: nothing to change\n")
    queues = {queue["name"] for queue in broker.send("GET", "queues").json()}
    assert queues == {queue.name for queue in topology().queues}


def test_a_missing_vhost_is_told_by_plan_and_made_by_apply(
    broker: Broker, applied: dict[str, str]
) -> None:
    env = applied | {"BROKER_VHOST": f"{broker.vhost}-new"}
    try:
        planned = orderctl(env, "topology", "plan")
        made = orderctl(env, "topology", "apply")
        again = orderctl(env, "topology", "plan")
    finally:
        broker.send_global("DELETE", "vhosts", env["BROKER_VHOST"])

    assert planned.exit_code == 1
    assert planned.stderr.count("\n") == 1
    assert env["BROKER_VHOST"] in planned.stderr
    assert (made.exit_code, again.exit_code) == (0, 0)


def test_what_was_removed_comes_back(broker: Broker, applied: dict[str, str]) -> None:
    broker.send("DELETE", "queues", "order.dlq")
    broker.send("DELETE", "bindings", "e", "orders.topic", "q", "inventory.queue", "order.created")
    broker.send("DELETE", "topic-permissions", "inventory")

    found = differences(applied)

    assert "queue order.dlq: missing" in found
    assert "binding orders.topic -[order.created]-> inventory.queue: missing" in found
    assert "topic permission inventory: missing" in found
    assert orderctl(applied, "topology", "apply").exit_code == 0
    assert differences(applied) == []


def test_rights_that_were_widened_are_narrowed(broker: Broker, applied: dict[str, str]) -> None:
    broker.send("PUT", "permissions", "order", configure=".*", write=".*", read=".*")

    assert [line.split(":")[0] for line in differences(applied)] == ["permission order"]

    assert orderctl(applied, "topology", "apply").exit_code == 0
    permission = broker.send("GET", "permissions", "order").json()
    assert permission["configure"] == "^$"


def test_a_changed_password_is_set_again_and_never_shown(
    broker: Broker, applied: dict[str, str]
) -> None:
    broker.send_global("PUT", "users", "monitor", password="an-old-secret", tags="monitoring")

    result = orderctl(applied, "topology", "apply")

    assert result.stdout == "changed user monitor: its password differs\n"
    assert differences(applied) == []


def test_guest_is_removed(broker: Broker, applied: dict[str, str]) -> None:
    broker.send_global("PUT", "users", "guest", password="guest", tags="administrator")

    assert differences(applied) == ["user guest: must not exist"]
    assert orderctl(applied, "topology", "apply").stdout == "removed user guest\n"
    assert broker.send_global("GET", "users", "guest").status_code == 404


@pytest.mark.parametrize("routing_key", ["#", "", "a/b c%d~"])
def test_an_unknown_binding_stays_until_it_is_pruned(
    broker: Broker, applied: dict[str, str], routing_key: str
) -> None:
    broker.send(
        "POST", "bindings", "e", "orders.topic", "q", "order.queue", routing_key=routing_key
    )
    name = f"binding orders.topic -[{routing_key}]-> order.queue: not in the code"

    # when
    result = orderctl(applied, "topology", "apply")

    # then
    assert (result.exit_code, result.stdout.startswith(f"left {name}; ")) == (0, True)
    assert differences(applied) == [name]

    result = orderctl(applied, "topology", "apply", "--prune")

    assert result.stdout == f"removed binding orders.topic -[{routing_key}]-> order.queue\n"
    assert differences(applied) == []


def test_an_onlooker_is_no_drift_but_its_exchange_leads_nowhere_else(
    broker: Broker, applied: dict[str, str]
) -> None:
    onlooker = "celeryev.01a20451-7749-7471-af99-c1c3cacdb60a"
    for queue in (onlooker, "somebodys.tap"):
        broker.send("PUT", "queues", queue, durable=True)
        broker.send("POST", "bindings", "e", "celeryev", "q", queue, routing_key="#")
    broker.send("POST", "bindings", "e", "orders.topic", "q", onlooker, routing_key="#")

    assert differences(applied) == [
        "binding celeryev -[#]-> somebodys.tap: not in the code",
        f"binding orders.topic -[#]-> {onlooker}: not in the code",
    ]


def test_an_unknown_binding_between_exchanges_is_pruned(
    broker: Broker, applied: dict[str, str]
) -> None:
    broker.send("POST", "bindings", "e", "orders.topic", "e", "amq.fanout", routing_key="order.#")
    broker.send("POST", "bindings", "e", "amq.fanout", "q", "order.queue", routing_key="x")

    assert len(differences(applied)) == 2
    assert orderctl(applied, "topology", "apply", "--prune").exit_code == 0
    assert differences(applied) == []


def test_what_cannot_be_changed_in_place_is_left_and_the_rest_is_applied(
    broker: Broker, applied: dict[str, str]
) -> None:
    broker.send("DELETE", "queues", "order.dlq")
    broker.send("PUT", "queues", "order.dlq", durable=True)
    broker.send("DELETE", "exchanges", "order.retry")
    broker.send("PUT", "exchanges", "order.retry", type="fanout", durable=True)
    broker.send("DELETE", "queues", "order.relay")

    result = orderctl(applied, "topology", "apply")

    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    left = [line for line in lines if line.startswith("left ")]
    assert len(left) == 2
    assert all("delete it" in line and "apply again" in line for line in left)
    assert "created queue order.relay" in lines
    # Nothing is bound to an exchange that would copy retries to every tier.
    assert not any("order.retry -[" in line for line in lines)

    broker.send("DELETE", "queues", "order.dlq")
    broker.send("DELETE", "exchanges", "order.retry")
    assert orderctl(applied, "topology", "apply").exit_code == 0
    assert differences(applied) == []


def test_what_the_code_does_not_know_is_listed_and_left_alone(
    broker: Broker, applied: dict[str, str]
) -> None:
    broker.send("PUT", "queues", "somebodys.tap", durable=True)
    broker.send("PUT", "queues", "a@b.celery.pidbox", durable=True)
    broker.send("PUT", "exchanges", "celeryev", type="topic", durable=True)

    result = orderctl(applied, "topology", "plan", "--json")

    document = json.loads(result.stdout)
    assert (result.exit_code, document["drift"]) == (0, False)
    assert document["unmanaged"] == ["queue somebodys.tap"]
    orderctl(applied, "topology", "apply")
    assert broker.send("GET", "queues", "somebodys.tap").status_code == 200


def test_an_older_release_leaves_a_newer_ones_service_bound(
    broker: Broker, applied: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a release that does not know the fraud check yet, nor an event that one more consumes
    older = tuple(
        replace(service, consumes=service.consumes[:1])
        for service in SERVICES
        if service.name != "fraud"
    )
    services_are(monkeypatch, older)
    before = broker.send("GET", "bindings").json()
    queues = broker.send("GET", "queues").json()

    # when it is rolled back to
    result = orderctl(applied, "topology", "apply")

    # then
    assert result.exit_code == 0
    assert "left binding orders.topic -[order.created]-> fraud.queue: not in the code" in (
        result.stdout
    )
    assert broker.send("GET", "bindings").json() == before
    assert {q["name"] for q in broker.send("GET", "queues").json()} == {q["name"] for q in queues}


def test_nothing_is_declared_before_all_nodes_run(vhost: Vhost, applied: dict[str, str]) -> None:
    env = applied | {"BROKER_NODES": "3"}
    vhost.request("DELETE", f"/queues/{vhost.name}/orders.stream")

    result = orderctl(env, "topology", "apply")

    assert (result.exit_code, "1 of BROKER_NODES=3 nodes run" in result.stderr) == (1, True)
    queues = vhost.request("GET", f"/queues/{vhost.name}").json()
    assert "orders.stream" not in {queue["name"] for queue in queues}


def test_a_removed_retry_tier_is_unmanaged_and_unbound(
    broker: Broker, applied: dict[str, str]
) -> None:
    env = applied | {"RETRY_TIERS": "1,5,30,120"}

    result = orderctl(env, "topology", "apply", "--prune")

    assert result.exit_code == 0
    assert "removed binding order.retry -[600s]-> order.retry.600s" in result.stdout
    document = json.loads(orderctl(env, "topology", "plan", "--json").stdout)
    assert "queue order.retry.600s" in document["unmanaged"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"BROKER_ADMIN_PASSWORD": "wrong"}, "rejects user"),
        ({"BROKER_ADMIN_URL": "https://127.0.0.1:1"}, "does not respond"),
        ({"BROKER_VHOST": "nowhere"}, "no vhost 'nowhere'"),
    ],
)
def test_a_broker_that_cannot_be_asked_is_told_in_one_line(
    operator_env: dict[str, str], changes: dict[str, str], part: str
) -> None:
    result = orderctl(operator_env | changes, "topology", "plan")

    assert (result.exit_code, result.stdout) == (1, "")
    assert part in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_node_that_does_not_answer_is_passed_over(vhost: Vhost, applied: dict[str, str]) -> None:
    # given two addresses, and nobody at the first one, neither over HTTP nor over AMQP
    env = applied | {"BROKER_ADMIN_URL": f"https://127.0.0.2:1,{vhost.management_url}"}

    # when, then
    assert orderctl(env, "topology", "plan").exit_code == 0
    assert parked(env) == []


@pytest.fixture
def channel(vhost: Any, applied: dict[str, str]) -> Iterator[Channel]:
    """An AMQP channel in a vhost that is as the code says."""
    with vhost.connect(confirm_publish=True) as connection:
        yield connection.channel()


def park(channel: Channel, event_id: str, *, time: Any = None, **properties: Any) -> None:
    """Park a message as the consumer runtime does; its event may tell its time."""
    failure = Failure.of(
        Cause(Verdict.RETRY, "ValueError", "no\nway"), service="inventory", release="r1", headers={}
    )
    headers = {"task": "order.created", "id": event_id, "retries": 5} | failure.to_headers()
    event = {"subject": "an-order"} | ({"time": time} if time else {})
    body = json.dumps([[], {"event": event}, {}]).encode()
    message = Message(body, application_headers=headers, message_id=event_id, **properties)
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")


def parked(env: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    result = orderctl(env, "parked", "list", "inventory", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def waiting(channel: Channel, queue: str) -> list[Message]:
    found = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        found.append(message)
    return found


def some(found: T | None) -> T:
    assert found
    return found


def test_a_parked_message_tells_why(channel: Channel, applied: dict[str, str]) -> None:
    park(channel, "e-1")

    (message,) = parked(applied)

    assert message | {"first_failed_at": "", "last_failed_at": ""} == {
        "service": "inventory",
        "id": "e-1",
        "type": "order.created",
        "order_id": "an-order",
        "exception": "ValueError",
        "text": "no\nway",
        "attempts": 1,
        "first_failed_at": "",
        "last_failed_at": "",
        "release": "r1",
    }
    assert "ValueError: no way" in orderctl(applied, "parked", "list").stdout


def test_a_message_that_killed_its_worker_tells_so(
    channel: Channel, applied: dict[str, str]
) -> None:
    channel.basic_publish(Message(b"\xff not JSON"), routing_key="inventory.queue")
    for _ in range(DELIVERY_LIMIT + 1):
        message = eventually(lambda: some(channel.basic_get("inventory.queue")))
        channel.basic_reject(message.delivery_tag, requeue=True)

    (found,) = eventually(lambda: some(parked(applied)))

    assert (
        found["text"]
        == f"crashed every worker that received it, in {DELIVERY_LIMIT + 1} deliveries"
    )
    assert found["id"].startswith("unnamed-")
    assert (found["exception"], found["order_id"]) == (None, None)


def test_looking_changes_neither_the_messages_nor_their_order(
    channel: Channel, applied: dict[str, str]
) -> None:
    ids = [f"e-{n}" for n in range(50)]
    for event_id in ids:
        park(channel, event_id)

    first = parked(applied, "--limit", "3")
    again = parked(applied)

    assert [message["id"] for message in first] == ids[:3]
    assert [message["id"] for message in again] == ids


def test_a_redriven_message_is_as_if_it_had_never_failed(
    vhost: Any, channel: Channel, applied: dict[str, str]
) -> None:
    park(channel, "e-1", user_id=vhost.admin_user, type="order.created")

    result = orderctl(applied, "parked", "redrive", "inventory", "--all")

    assert (result.exit_code, result.stdout) == (0, "inventory: 1 redriven to inventory.queue\n")
    assert parked(applied) == []
    (message,) = waiting(channel, "inventory.queue")
    headers = {k: v for k, v in message.headers.items() if k != "x-delivery-count"}
    assert headers == {"task": "order.created", "id": "e-1", "retries": 0}
    assert (message.properties["message_id"], message.properties["type"]) == (
        "e-1",
        "order.created",
    )
    assert "user_id" not in message.properties


def test_one_message_is_redriven_and_the_others_stay_in_order(
    channel: Channel, applied: dict[str, str]
) -> None:
    for event_id in ("e-1", "e-2", "e-3"):
        park(channel, event_id)

    result = orderctl(applied, "parked", "redrive", "inventory", "--id", "e-2", "--id", "e-9")

    assert result.exit_code == 1
    assert "e-9" in result.stderr
    assert [message["id"] for message in parked(applied)] == ["e-1", "e-3"]
    assert [m.headers["id"] for m in waiting(channel, "inventory.queue")] == ["e-2"]


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def test_an_event_that_is_too_old_is_not_redriven_and_stays_parked(
    channel: Channel, applied: dict[str, str]
) -> None:
    # given
    park(channel, "e-old", time=days_ago(14.1))
    park(channel, "e-young", time=days_ago(13.9))

    # when
    result = orderctl(applied, "parked", "redrive", "inventory", "--all")

    # then
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "1 redriven" in result.stderr
    assert "1 left parked, older than PARKED_REDRIVE_DAYS (14): e-old" in result.stderr
    assert [message["id"] for message in parked(applied)] == ["e-old"]
    assert [m.headers["id"] for m in waiting(channel, "inventory.queue")] == ["e-young"]


def test_an_event_that_is_named_and_too_old_stays_parked_too(
    channel: Channel, applied: dict[str, str]
) -> None:
    # given
    park(channel, "e-old", time=days_ago(15))
    redrive = ("parked", "redrive", "inventory", "--id", "e-old")

    # when
    refused = orderctl(applied, *redrive)

    # then
    assert refused.exit_code == 1
    assert "PARKED_REDRIVE_DAYS" in refused.stderr
    assert waiting(channel, "inventory.queue") == []

    # and when the limit is raised, which the dedup window allows
    redriven = orderctl(applied | {"PARKED_REDRIVE_DAYS": "16"}, *redrive)

    # then
    assert redriven.exit_code == 0, redriven.output
    assert [m.headers["id"] for m in waiting(channel, "inventory.queue")] == ["e-old"]


def test_nothing_is_redriven_by_a_limit_that_the_dedup_window_does_not_allow(
    channel: Channel, applied: dict[str, str]
) -> None:
    # given
    park(channel, "e-1", time=days_ago(1))

    # when
    too_far = applied | {"PARKED_REDRIVE_DAYS": "30"}
    result = orderctl(too_far, "parked", "redrive", "inventory", "--all")

    # then
    assert isinstance(result.exception, SettingsError)
    assert "INBOX_RETENTION_DAYS" in str(result.exception)
    assert "PARKED_REDRIVE_DAYS" in str(result.exception)
    assert [message["id"] for message in parked(applied)] == ["e-1"]


def test_a_message_that_cannot_be_put_back_stays_parked(
    broker: Broker, channel: Channel, applied: dict[str, str]
) -> None:
    park(channel, "e-1")
    broker.send("DELETE", "queues", "inventory.queue")

    result = orderctl(applied, "parked", "redrive", "inventory", "--all")

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert [message["id"] for message in parked(applied)] == ["e-1"]


def test_redrive_needs_to_be_told_what(applied: dict[str, str]) -> None:
    assert orderctl(applied, "parked", "redrive", "inventory").exit_code == 64
    assert orderctl(applied, "parked", "redrive", "inventory", "--all", "--id", "x").exit_code == 64


def test_a_discarded_message_is_shown_once_more_and_gone_and_the_others_stay_in_order(
    channel: Channel, applied: dict[str, str]
) -> None:
    # given messages of three events, one of them parked twice
    for event_id in ("e-1", "e-2", "e-3", "e-2"):
        park(channel, event_id)

    # when
    result = orderctl(applied, "parked", "discard", "inventory", "--id", "e-2", "--yes", "--json")

    # then
    assert (result.exit_code, result.stderr) == (0, "inventory: 2 deleted permanently\n")
    shown = json.loads(result.stdout)
    assert [(m["id"], m["exception"]) for m in shown] == [("e-2", "ValueError")] * 2
    assert json.loads(shown[0]["body"]) == [[], {"event": {"subject": "an-order"}}, {}]
    assert [message["id"] for message in parked(applied)] == ["e-1", "e-3"]
    assert waiting(channel, "inventory.queue") == []


def test_nothing_is_discarded_by_halves(channel: Channel, applied: dict[str, str]) -> None:
    # given
    park(channel, "e-1")
    discard = ("parked", "discard", "inventory", "--yes", "--id", "e-1", "--id", "e-9")

    # when one of the events is not parked
    result = orderctl(applied, *discard)

    # then
    assert (result.exit_code, result.stderr) == (1, "Error: not parked by inventory: e-9\n")
    assert [message["id"] for message in parked(applied)] == ["e-1"]


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["e-1"]), ("", ["e-1"]), ("y\n", [])])
def test_discard_asks_first(
    channel: Channel, applied: dict[str, str], answer: str, left: list[str]
) -> None:
    # given
    park(channel, "e-1")

    # when
    result = orderctl(applied, "parked", "discard", "inventory", "--id", "e-1", answer=answer)

    # then
    assert "inventory: delete e-1 permanently?" in result.stderr
    assert result.exit_code == (1 if left else 0)
    assert ("no way" in result.stdout) is (not left)
    assert [message["id"] for message in parked(applied)] == left


def test_discard_needs_to_be_told_what(applied: dict[str, str]) -> None:
    assert orderctl(applied, "parked", "discard", "inventory").exit_code == 64
