"""The parts and machines for a rate of orders: the second table of docs/sizing.md.

The table divides the figures of one machine, under the assumptions of `bench.sizing`. `make bench`
and `python -m bench.scale_out` write the table.
"""

import math

from bench import results, sizing
from bench.figures import tables
from bench.results import Results
from bench.sizing import DOCUMENT, QUEUE, RATES, USED

#: Processors of each machine that runs programs and servers.
CORES = 8

#: Children of a worker, each on its own processor: `celeryconfig/worker.py`.
CHILDREN = 2

#: Events of a confirmed order in each queue whose parts share its work. A service that handles one
#: batch at a time is not in the table: parts do not help it.
ARRIVING = {"order": 1, "inventory": 1, "notification": 2}


def relay_limit(figures: Results, relay: str) -> float:
    """Return the orders per second of one relay: alone, or under contention if that is less."""
    alone = figures["relay_per_s"]["ours"] / sizing.EVENTS[relay]
    return float(USED * min(alone, 1000 / figures["cpu_ms_per_order_by_program"][relay]))


def part_limit(figures: Results, service: str) -> float:
    """Return the orders per second of one part of a queue: of its worker, or of the queue."""
    worker = CHILDREN * 1000 / figures["cpu_ms_per_order_by_program"][f"{service}-worker"]
    return float(USED * min(worker, QUEUE / ARRIVING[service]))


def machines(figures: Results, rate: float) -> int:
    """Return the machines of `CORES` processors for programs and servers with their copies."""
    processors = sizing.needs(figures, rate).processors
    # Each of two standbys does half of the work of the primary. A message has three copies.
    copies = {"postgresql": 2, "rabbitmq": 3}
    return math.ceil(sum(copies.get(name, 1) * n for name, n in processors.items()) / CORES)


def table(figures: Results) -> str:
    """Return the parts and machines for each rate, as a table."""
    limits = {
        **{
            f"`{relay}`, parts of the outbox": relay_limit(figures, relay)
            for relay in sizing.EVENTS
        },
        **{f"`{name}-worker`, parts of the queue": part_limit(figures, name) for name in ARRIVING},
    }
    head = ["", "capacity of one, orders/s", *(f"{rate:,} orders/s" for rate in RATES)]
    rows = [
        [name, f"{limit:,.0f}", *(str(math.ceil(rate / limit)) for rate in RATES)]
        for name, limit in limits.items()
    ]
    total = [f"machines of {CORES} processors", "", *(str(machines(figures, r)) for r in RATES)]
    return tables.table(head, [*rows, total])


def updated(document: str, figures: Results) -> str:
    """Return the document with the table between its markers."""
    return tables.with_table(document, "scale-out", table(figures))


def write(figures: Results) -> None:
    """Write the table to the document."""
    DOCUMENT.write_text(updated(DOCUMENT.read_text(), figures))


if __name__ == "__main__":
    write(results.read())
