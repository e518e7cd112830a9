"""Processor time of the system under measurement: its processes and its two servers, no others."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from bench.system.measured import Measured
from bench.system.servers import NAME, execute
from deploy.local.processes import leftovers

#: Programs that look on: without them the orders are the same.
OBSERVERS = ("spans", "flower", "exporter", "prometheus", "console")

_TICKS = os.sysconf("SC_CLK_TCK")
_OUR_BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME}'"

#: In the servers' state directory, whose it is by the name of its program; the rest is nobody's.
_SERVERS = {"postgres": "postgresql", "beam.smp": "rabbitmq", "epmd": "rabbitmq"}


def used(measured: Measured) -> Mapping[str, float]:
    """Return the seconds used so far by each program, and by `postgresql` and `rabbitmq`.

    What counts are this run's own processes and their children, those that have ended included.
    What does not: this process, which takes the mails too; the load generator; and the database's
    work for this process. The supervisor counts where `pids` names it.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for program, pids in measured.pids().items():
        found[program] = sum(map(seconds, pids))
    # All of the server's: any database tells.
    asked_by_us = {pid for (pid,) in execute(measured, "order", _OUR_BACKENDS)}
    for pid in leftovers.find(measured.state) - asked_by_us:
        if server := _SERVERS.get(_command(pid)):
            found[server] += seconds(pid)
    return found


def price(before: Mapping[str, float], after: Mapping[str, float], orders: int) -> dict[str, float]:
    """Return the milliseconds that one order took of each, in the order of their amount."""
    spent = {name: (after[name] - before.get(name, 0)) * 1000 / orders for name in after}
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def split(price: Mapping[str, float]) -> dict[str, float]:
    """Return a price by application, database and broker."""
    servers = {name: price.get(name, 0.0) for name in ("postgresql", "rabbitmq")}
    return {"application": sum(of_programs(price).values()), **servers}


def parts(price: Mapping[str, float]) -> dict[str, float]:
    """Return a price by what is paid for: the work, who only looks on, each server; and the total.

    What the programs spend to tell observers of their work is a part of the application's.
    """
    observers = sum(price.get(name, 0.0) for name in OBSERVERS)
    found = split(price)
    found["application"] -= observers
    return {"total": sum(price.values()), "observers": observers, **found}


def of_programs(price: Mapping[str, float]) -> dict[str, float]:
    """Return the application's part of a price, by program."""
    return {name: ms for name, ms in price.items() if name not in _SERVERS.values()}


def seconds(pid: int) -> float:
    """Return what a process has used, with those of its children that it has seen end."""
    try:
        # The name, in brackets, may itself hold brackets and spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
