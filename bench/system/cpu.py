"""The CPU time of the system under measurement: its processes and its two servers only."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from bench.system.measured import Measured
from bench.system.servers import NAME, execute
from deploy.local.processes import leftovers

#: Programs that only observe.
OBSERVERS = ("spans", "flower", "exporter", "prometheus", "console")

_TICKS = os.sysconf("SC_CLK_TCK")
_BENCH_BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}'"

#: The server of a process in the servers' state directory, by the name of its executable; other
#: processes do not count.
_SERVERS = {"postgres": "postgresql", "beam.smp": "rabbitmq", "epmd": "rabbitmq"}


def used(measured: Measured) -> Mapping[str, float]:
    """Return the seconds used so far by each program, and by `postgresql` and `rabbitmq`.

    Includes this run's processes and their children, even those that have exited. Excludes this
    process, which also receives the emails, the load generator, and the database's work for this
    process. Includes the supervisor only if it is in `pids`.
    """
    used_by: defaultdict[str, float] = defaultdict(float)
    for program, pids in measured.pids().items():
        used_by[program] = sum(map(seconds, pids))
    # The view of any database lists the backends of the whole server.
    own_backends = {pid for (pid,) in execute(measured, "order", _BENCH_BACKENDS)}
    for pid in leftovers.find(measured.state) - own_backends:
        if server := _SERVERS.get(_command(pid)):
            used_by[server] += seconds(pid)
    return used_by


def price(before: Mapping[str, float], after: Mapping[str, float], orders: int) -> dict[str, float]:
    """Return the milliseconds per order of each program and server, the largest first."""
    spent = {name: (after[name] - before.get(name, 0)) * 1000 / orders for name in after}
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def cores(before: Mapping[str, float], after: Mapping[str, float], elapsed: float) -> float:
    """Return the number of processors that were busy during `elapsed` seconds."""
    return sum(after[name] - before.get(name, 0) for name in after) / elapsed


def split(price: Mapping[str, float]) -> dict[str, float]:
    """Return a price by application, database and broker."""
    servers = {name: price.get(name, 0.0) for name in ("postgresql", "rabbitmq")}
    return {"application": sum(of_programs(price).values()), **servers}


def parts(price: Mapping[str, float]) -> dict[str, float]:
    """Return a price by application, observers and each server, and the total.

    The cost of reporting to observers is part of the application.
    """
    observers = sum(price.get(name, 0.0) for name in OBSERVERS)
    by_part = split(price)
    by_part["application"] -= observers
    return {"total": sum(price.values()), "observers": observers, **by_part}


def of_programs(price: Mapping[str, float]) -> dict[str, float]:
    """Return the application's part of a price, by program."""
    return {name: ms for name, ms in price.items() if name not in _SERVERS.values()}


def seconds(pid: int) -> float:
    """Return the CPU time of a process, including its children that it has reaped."""
    try:
        # The name, in parentheses, may contain parentheses and spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
