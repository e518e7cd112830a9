"""Bytes that orders leave on disk: in each service's database, and in the stream."""

from collections.abc import Mapping

from bench.system.servers import execute
from testkit.processes.stack import Stack

#: With its indexes, and with what a vacuum has not yet given back.
_SIZE = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables"


def used(stack: Stack) -> Mapping[str, int]:
    """Return the bytes that each database's tables and, as `stream`, the stream's files have."""
    found = {}
    for service in stack.databases:
        ((found[service],),) = execute(stack, service, _SIZE)
    home = stack.servers.secrets_dir.parent
    found["stream"] = sum(path.stat().st_size for path in home.rglob("stream/*/*.segment"))
    return found


def of_an_order(before: Mapping[str, int], after: Mapping[str, int], orders: int) -> dict[str, int]:
    """Return the bytes that one order took of each, the most first."""
    taken = {name: round((after[name] - before.get(name, 0)) / orders) for name in after}
    return dict(sorted(taken.items(), key=lambda item: -item[1]))
