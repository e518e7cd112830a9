"""A system under measurement: its addresses, its processes, and when it is idle."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.kombu_topology import CONSUMERS
from deploy.local.processes import leftovers
from deploy.local.state import StateDirectory
from testkit.processes.stack import Stack
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost

#: Programs of the flow that the plain build also has: without other services and the mailer.
ALIKE = (
    *("api", "order-worker", "order-relay", "inventory-worker", "inventory-relay"),
    *("notification-worker", "beat"),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A running system; all its figures are derived from these fields alone."""

    name: str
    url: str
    api_key: str
    #: The databases by service: at least `order`, `inventory` and `notification`, with this
    #: system's tables.
    databases: Mapping[str, TestDatabase]
    vhost: Vhost
    #: The state directory of its servers, which no other system uses during the measurement.
    state: StateDirectory
    logs: Path
    #: Processes by program, including children, without the servers.
    pids: Callable[[], Mapping[str, Iterable[int]]]
    #: The programs that have exited: none unless one has failed.
    ended: Callable[[], Iterable[str]]
    #: The system is idle when these queues, and the outboxes of these services, are empty.
    queues: tuple[str, ...] = tuple(service.queue for service in CONSUMERS)
    outboxes: tuple[str, ...] = ("order", "inventory")
    #: Whether emails are sent, and count in the price; otherwise pending emails are discarded.
    sends_mails: bool = False


def of(stack: Stack, name: str = "lean", **others: Any) -> Measured:
    """Return a stack whose programs run without observers; `others` are fields that differ."""
    fields: dict[str, Any] = {
        "url": stack.url,
        "api_key": stack.api_key,
        "databases": stack.databases,
        "vhost": stack.vhost,
        "state": StateDirectory(stack.servers.secrets_dir.parent),
        "logs": stack.directory,
        "pids": stack.pids,
        "ended": lambda: [program for program in stack.pids() if not stack.is_running(program)],
    }
    return Measured(name=name, **(fields | others))


def families(leaders: Mapping[str, int]) -> Mapping[str, set[int]]:
    """Return each program's processes, including its children."""
    return {name: leftovers.family({pid}) for name, pid in leaders.items()}


def ended(leaders: Mapping[str, int]) -> list[str]:
    """Return the programs whose first process has exited."""
    return [name for name, pid in leaders.items() if not _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
