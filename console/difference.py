"""How a broker differs from a topology, and the request that removes each difference."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kombu.entity import Exchange, Queue

from common.kombu_topology import ONLOOKER_QUEUE, TASK_EVENTS, Binding, Topology
from console.broker_state import BrokerState, Object

#: The problem of what is not there at all.
MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to the management API."""

    method: str
    path: tuple[str, ...]
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something on the broker that is not as the code says.

    It has either the `request` that removes it, or the `remedy` that an operator must see to.
    """

    kind: str
    name: str
    problem: str
    request: Request | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        """Return it as one line."""
        line = f"{self.kind} {self.name}: {self.problem}"
        return f"{line}; {self.remedy}" if self.remedy else line

    @property
    def outcome(self) -> str:
        """What becomes of it when it is removed."""
        if self.request is None:
            return "left"
        if self.request.method == "DELETE":
            return "removed"
        return "created" if self.problem == MISSING else "changed"


def differences(topology: Topology, state: BrokerState) -> Iterator[Difference]:
    """Yield how the vhost's exchanges, queues and bindings differ, in the order to remove it."""
    exchanges = [found for e in topology.exchanges for found in _exchange(e, state)]
    yield from exchanges
    for queue in topology.queues:
        yield from _queue(queue, state)
    # An exchange of another type would copy messages where they must not go.
    yield from _bindings(topology, state, unusable={e.name for e in exchanges if e.remedy})


def changes(wanted: Mapping[str, Any], actual: Object) -> str:
    """Return in words which of the wanted values are others on the broker; empty if none."""
    return ", ".join(
        f"{name} is {actual.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if actual.get(name) != value
    )


def _exchange(exchange: Exchange, state: BrokerState) -> Iterator[Difference]:
    wanted = {
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": False,
        "arguments": exchange.arguments or {},  # type: ignore[attr-defined]
    }
    path = ("exchanges", state.vhost, exchange.name)
    remedy = (
        "it cannot be changed in place: stop what publishes to it, delete it on the management "
        "page and apply again"
    )
    yield from _declared("exchange", wanted, state.exchanges.get(exchange.name), path, remedy)


def _queue(queue: Queue, state: BrokerState) -> Iterator[Difference]:
    wanted = {
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": queue.queue_arguments or {},  # type: ignore[attr-defined]
    }
    path = ("queues", state.vhost, queue.name)
    remedy = (
        "it cannot be changed in place: let it run empty, delete it on the management page "
        "and apply again"
    )
    yield from _declared("queue", wanted, state.queues.get(queue.name), path, remedy)


def _declared(
    kind: str, wanted: Mapping[str, Any], actual: Object | None, path: tuple[str, ...], remedy: str
) -> Iterator[Difference]:
    name = path[-1]
    if actual is None:
        request = Request(method="PUT", path=path, body=wanted)
        yield Difference(kind=kind, name=name, problem=MISSING, request=request)
    elif problem := changes(wanted, actual):
        yield Difference(kind=kind, name=name, problem=problem, remedy=remedy)


def _bindings(
    topology: Topology, state: BrokerState, *, unusable: Collection[str]
) -> Iterator[Difference]:
    exchanges = {exchange.name for exchange in topology.exchanges}
    queues = {queue.name for queue in topology.queues}
    # A queue's binding to the default exchange, whose name is empty, comes with the queue.
    managed = [
        b
        for b in state.bindings
        if b["source"]
        and (b["source"] in exchanges or b["destination"] in queues)
        # Onlookers come and go, with their bindings.
        and not (b["source"] == TASK_EVENTS.name and re.fullmatch(ONLOOKER_QUEUE, b["destination"]))
    ]
    actual = {plain for b in managed if (plain := _plain(b))}
    # Missing ones first: a binding that was replaced leaves no gap in which events get lost.
    for binding in topology.bindings:
        if binding not in actual and binding.exchange not in unusable:
            yield _missing_binding(binding, state.vhost)
    for extra in managed:
        if _plain(extra) not in topology.bindings:
            yield _extra_binding(extra, state.vhost)


def _plain(binding: Object) -> Binding | None:
    if binding["destination_type"] != "queue":
        return None
    headers = {name: value for name, value in binding["arguments"].items() if name != "x-match"}
    plain = Binding(
        exchange=binding["source"],
        queue=binding["destination"],
        routing_key=binding["routing_key"],
        headers=tuple(sorted(headers.items())),
    )
    return plain if plain.arguments == binding["arguments"] else None


def _missing_binding(binding: Binding, vhost: str) -> Difference:
    path = ("bindings", vhost, "e", binding.exchange, "q", binding.queue)
    return Difference(
        kind="binding",
        name=_arrow(binding.exchange, _key(binding), binding.queue),
        problem=MISSING,
        request=Request(
            method="POST",
            path=path,
            body={"routing_key": binding.routing_key, "arguments": binding.arguments},
        ),
    )


def _extra_binding(binding: Object, vhost: str) -> Difference:
    source, destination = binding["source"], binding["destination"]
    kind = "q" if binding["destination_type"] == "queue" else "e"
    path = ("bindings", vhost, "e", source, kind, destination, binding["properties_key"])
    return Difference(
        kind="binding",
        name=_arrow(source, binding["routing_key"], destination),
        problem="not in the code",
        request=Request(method="DELETE", path=path),
    )


def _key(binding: Binding) -> str:
    headers = ", ".join(f"{name}={value}" for name, value in binding.headers)
    return headers or binding.routing_key


def _arrow(exchange: str, routing_key: str, destination: str) -> str:
    return f"{exchange} -[{routing_key}]-> {destination}"
