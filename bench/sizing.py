"""What many orders a second need, from the measured price of one: the table of docs/sizing.md.

All that is assumed is in this file; all that is measured comes from `bench/results.json`.
`python -m bench.sizing` writes the table, and `make bench`, too.
"""

import math
from dataclasses import dataclass

from bench import results
from bench.results import Results
from deploy.local import REPOSITORY

DOCUMENT = REPOSITORY / "docs/sizing.md"

RATES = (100, 1_000, 10_000, 100_000)

#: Of each processor so much is planned with: the rest is for the best minute of an hour, and for
#: what the others do when one machine is away.
USED = 0.6

#: Events of an order that is confirmed, by who sends them. One relay drains an outbox, and is one
#: process: the order's is the first that is not enough.
EVENTS = {"order-relay": 2, "inventory-relay": 1}

#: Of PostgreSQL's price, the order database's part, which writes most. Assumed: it is not measured.
ORDER_DATABASE = 0.5

#: Messages a second through one quorum queue, which is one process of RabbitMQ's whatever the
#: machine. Assumed. And those of an order in the busiest one, the notification's.
QUEUE = 10_000
MESSAGES = 2

#: Seconds.
DAY = 86_400

#: What one PostgreSQL primary and one RabbitMQ node can use of a big machine before they wait for
#: their disk or for themselves. Assumed: nothing here has run on more than two processors.
MOST_CORES = 32


_BEGIN, _END = "<!-- sizing -->", "<!-- /sizing -->"


@dataclass(frozen=True)
class Need:
    """What a rate needs."""

    #: Processors, by program and server, of which `USED` is used; of a server one copy.
    processors: dict[str, float]
    #: How many order relays, parts of the busiest queue, and primaries of the order database.
    relays: int
    shards: int
    databases: int
    #: RabbitMQ's nodes: three, or as many as all copies of all messages need.
    nodes: int
    #: Gigabytes a day that are written to the databases of one copy, and to the stream.
    database_gb: float
    stream_gb: float


def needs(found: Results, rate: float) -> Need:
    """Return what so many orders a second need."""
    price, programs = found["cpu_ms_per_order"], found["cpu_ms_per_order_by_program"]
    servers = {server: price[server] for server in ("postgresql", "rabbitmq")}
    stored = found["bytes_per_order"]
    processors = {name: rate * ms / 1000 / USED for name, ms in (programs | servers).items()}
    order_database = processors["postgresql"] * ORDER_DATABASE
    events = rate * EVENTS["order-relay"]
    alone = events / (found["relay_per_s"]["ours"] * USED)
    return Need(
        processors,
        # The larger: among others a batch is smaller, and an event costs more than alone.
        relays=math.ceil(max(alone, processors["order-relay"])),
        shards=math.ceil(rate * MESSAGES / (QUEUE * USED)),
        databases=math.ceil(order_database / MOST_CORES),
        nodes=max(3, math.ceil(3 * processors["rabbitmq"] / MOST_CORES)),
        database_gb=rate * DAY * (sum(stored.values()) - stored["stream"]) / 1e9,
        stream_gb=rate * DAY * stored["stream"] / 1e9,
    )


def table(found: Results) -> str:
    """Return what each rate needs, as a table."""
    of = [needs(found, rate) for rate in RATES]
    # Beat ticks once a second, whatever the rate.
    others = ("postgresql", "rabbitmq", "beat")
    programs = [name for name in of[0].processors if name not in others]
    application = [sum(need.processors[name] for name in programs) for need in of]
    rows = [
        ("**processors**, all programs", [_number(total) for total in application]),
        *((f"of them `{n}`", [_number(x.processors[n]) for x in of]) for n in programs),
        # The primary, and half of it again on each of two standbys.
        ("PostgreSQL, three servers", [_number(2 * x.processors["postgresql"]) for x in of]),
        ("RabbitMQ, three copies", [_number(3 * x.processors["rabbitmq"]) for x in of]),
        ("**order relays**; above 1 the outbox is split", [str(x.relays) for x in of]),
        ("**parts** of the busiest queue", [str(x.shards) for x in of]),
        ("**primaries** of the order database", [str(x.databases) for x in of]),
        ("RabbitMQ nodes", [str(x.nodes) for x in of]),
        ("**disk** of the databases, each copy, GB a day", [_number(x.database_gb) for x in of]),
        ("disk of the stream, each copy, GB a day", [_number(x.stream_gb) for x in of]),
    ]
    header = ["", *(f"{rate:,} orders/s" for rate in RATES)]
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def updated(document: str, found: Results) -> str:
    """Return the document with the table between its markers."""
    before, _, rest = document.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{table(found)}\n{_END}{after}"


def write(found: Results) -> None:
    """Put the table into the document."""
    DOCUMENT.write_text(updated(DOCUMENT.read_text(), found))


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    write(results.read())
