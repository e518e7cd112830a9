"""The disk space of orders, in each service's database and in the stream."""

from collections.abc import Mapping

from bench.system.servers import execute
from testkit.processes.stack import Stack

#: The query for the size of all tables, including indexes and dead rows.
_SIZE = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables"


def used(stack: Stack) -> Mapping[str, int]:
    """Return the bytes of each database's tables and, as `stream`, of the stream's files."""
    sizes = {}
    for service in stack.databases:
        ((sizes[service],),) = execute(stack, service, _SIZE)
    home = stack.servers.secrets_dir.parent
    sizes["stream"] = sum(path.stat().st_size for path in home.rglob("stream/*/*.segment"))
    return sizes


def of_an_order(before: Mapping[str, int], after: Mapping[str, int], orders: int) -> dict[str, int]:
    """Return the bytes of one order in each, the largest first."""
    growth = {name: round((after[name] - before.get(name, 0)) / orders) for name in after}
    return dict(sorted(growth.items(), key=lambda item: -item[1]))
