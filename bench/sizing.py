"""The resources for a rate of orders, from the measured price of one: the table of docs/sizing.md.

All assumptions are in this file; all measurements are in `bench/results.json`. `make bench` and
`python -m bench.sizing` write the table.
"""

import math
from dataclasses import dataclass

from bench import results
from bench.figures import tables
from bench.results import Results
from deploy.local import REPOSITORY

DOCUMENT = REPOSITORY / "docs/sizing.md"

RATES = (100, 1_000, 10_000, 100_000)

#: The planned utilization of each processor: the rest is for the busiest minute of an hour, and for
#: the load of a machine that is down.
USED = 0.6

#: Events of a confirmed order, by their relay. One relay drains an outbox, and is one process: the
#: order relay saturates first.
EVENTS = {"order-relay": 2, "inventory-relay": 1}

#: The order database's share of PostgreSQL's price, as the database that writes most. The value is
#: assumed, not measured.
ORDER_DATABASE = 0.5

#: Assumed number of messages per second through one quorum queue, which is one process of RabbitMQ
#: on any machine, and number of messages of an order in the busiest queue, which is that of the
#: notification service.
QUEUE = 10_000
MESSAGES = 2

#: Seconds in a day.
DAY = 86_400

#: The processors that one PostgreSQL primary or one RabbitMQ node can use before its disk or
#: contention limits it. The number is assumed, because no measurement ran on more than two
#: processors.
MOST_CORES = 32


@dataclass(frozen=True)
class Need:
    """The resources for a rate."""

    #: Processors by program and server, utilized to `USED`, for one copy of each server.
    processors: dict[str, float]
    #: The number of order relays, of shards of the busiest queue, and of primaries of the order
    #: database.
    relays: int
    shards: int
    databases: int
    #: RabbitMQ's nodes: three, or more if all copies of all messages require them.
    nodes: int
    #: Gigabytes per day in one copy of the databases, and of the stream.
    database_gb: float
    stream_gb: float


def needs(figures: Results, rate: float) -> Need:
    """Return the resources for a rate in orders per second."""
    price, programs = figures["cpu_ms_per_order"], figures["cpu_ms_per_order_by_program"]
    servers = {server: price[server] for server in ("postgresql", "rabbitmq")}
    stored = figures["bytes_per_order"]
    processors = {name: rate * ms / 1000 / USED for name, ms in (programs | servers).items()}
    order_database = processors["postgresql"] * ORDER_DATABASE
    events = rate * EVENTS["order-relay"]
    alone = events / (figures["relay_per_s"]["ours"] * USED)
    return Need(
        processors,
        # The larger of both, because batches are smaller under contention, and an event then costs
        # more.
        relays=math.ceil(max(alone, processors["order-relay"])),
        shards=math.ceil(rate * MESSAGES / (QUEUE * USED)),
        databases=math.ceil(order_database / MOST_CORES),
        nodes=max(3, math.ceil(3 * processors["rabbitmq"] / MOST_CORES)),
        database_gb=rate * DAY * (sum(stored.values()) - stored["stream"]) / 1e9,
        stream_gb=rate * DAY * stored["stream"] / 1e9,
    )


def table(figures: Results) -> str:
    """Return the resources for each rate, as a table."""
    columns = [needs(figures, rate) for rate in RATES]
    # Beat ticks once a second at any rate.
    others = ("postgresql", "rabbitmq", "beat")
    programs = [name for name in columns[0].processors if name not in others]
    application = [sum(need.processors[name] for name in programs) for need in columns]
    rows = [
        ("**processors**, all programs", [_number(total) for total in application]),
        *((f"of which `{n}`", [_number(x.processors[n]) for x in columns]) for n in programs),
        # Each of two standbys does half of the work of the primary.
        ("PostgreSQL, three servers", [_number(2 * x.processors["postgresql"]) for x in columns]),
        ("RabbitMQ, three copies", [_number(3 * x.processors["rabbitmq"]) for x in columns]),
        ("**order relays**; above 1 the outbox is split", [str(x.relays) for x in columns]),
        ("**parts** of the busiest queue", [str(x.shards) for x in columns]),
        ("**primaries** of the order database", [str(x.databases) for x in columns]),
        ("RabbitMQ nodes", [str(x.nodes) for x in columns]),
        (
            "**disk** of the databases, each copy, GB per day",
            [_number(x.database_gb) for x in columns],
        ),
        ("disk of the stream, each copy, GB per day", [_number(x.stream_gb) for x in columns]),
    ]
    head = ["", *(f"{rate:,} orders/s" for rate in RATES)]
    return tables.table(head, [[name, *cells] for name, cells in rows])


def updated(document: str, figures: Results) -> str:
    """Return the document with the table between its markers."""
    return tables.with_table(document, "sizing", table(figures))


def write(figures: Results) -> None:
    """Write the table to the document."""
    DOCUMENT.write_text(updated(DOCUMENT.read_text(), figures))


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    write(results.read())
