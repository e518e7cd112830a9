"""A system under measurement, whichever it is: where it is, what belongs to it, when it rests."""

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

#: Programs of the flow that the plain build has, too: no more services, no mailer.
ALIKE = (
    *("api", "order-worker", "order-relay", "inventory-worker", "inventory-relay"),
    *("notification-worker", "beat"),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A system that runs; every figure of it is made from this alone."""

    name: str
    url: str
    api_key: str
    #: By service: `order`, `inventory` and `notification` at least, with the tables of ours.
    databases: Mapping[str, TestDatabase]
    vhost: Vhost
    #: That of its servers, which belong to it alone while it is measured.
    state: StateDirectory
    logs: Path
    #: Processes by program, the children among them; the servers are not.
    pids: Callable[[], Mapping[str, Iterable[int]]]
    #: The programs that have ended, which none should.
    ended: Callable[[], Iterable[str]]
    #: It rests when these are empty, and the outboxes of these services.
    queues: tuple[str, ...] = tuple(service.queue for service in CONSUMERS)
    outboxes: tuple[str, ...] = ("order", "inventory")
    #: Then its mails must be sent, and their price counts; otherwise those that wait are forgotten.
    sends_mails: bool = False


def of(stack: Stack, name: str = "lean", **others: Any) -> Measured:
    """Return a stack of programs that was started without those who only look.

    `others` are fields that differ.
    """
    usual: dict[str, Any] = {
        "url": stack.url,
        "api_key": stack.api_key,
        "databases": stack.databases,
        "vhost": stack.vhost,
        "state": StateDirectory(stack.servers.secrets_dir.parent),
        "logs": stack.directory,
        "pids": stack.pids,
        "ended": lambda: [program for program in stack.pids() if not stack.is_running(program)],
    }
    return Measured(name=name, **(usual | others))


def families(leaders: Mapping[str, int]) -> Mapping[str, set[int]]:
    """Return each program's processes, its children among them."""
    return {name: leftovers.family({pid}) for name, pid in leaders.items()}


def ended(leaders: Mapping[str, int]) -> list[str]:
    """Return the programs whose first process has ended."""
    return [name for name, pid in leaders.items() if not _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
