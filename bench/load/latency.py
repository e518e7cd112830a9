"""The latency of an order from POST to its decision, on an otherwise idle system.

    orderctl stock set BENCH 1000000
    python -m bench.load.latency http://127.0.0.1:8000 --sku BENCH --orders 500

The API key is in ORDERS_API_KEY, see `make env`. Orders of one unit are placed one after another.
The latency is measured from before the POST to the order's `decided_at`: the client and the order
service must share a clock.
"""

import statistics
import time
from datetime import UTC, datetime

import click
import httpx
from rich.progress import track

#: Seconds to wait for one decision.
PATIENCE = 30.0


@click.command(help=__doc__)
@click.argument("url")
@click.option("--sku", default="BENCH", show_default=True)
@click.option("--api-key", envvar="ORDERS_API_KEY", required=True, help="Or ORDERS_API_KEY.")
@click.option("--orders", default=500, show_default=True, type=click.IntRange(10, 100_000))
def main(url: str, sku: str, api_key: str, orders: int) -> None:
    """Place the orders, and print their latencies."""
    bearer = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=url, headers=bearer, timeout=10) as client:
        latencies = sorted(
            decide(client, sku) for _ in track(range(orders), description="orders", transient=True)
        )
    p50, p99 = statistics.median(latencies), latencies[int(len(latencies) * 0.99) - 1]
    click.echo(
        f"{orders} orders: median {p50:.0f} ms, p99 {p99:.0f} ms, max {latencies[-1]:.0f} ms"
    )


def decide(client: httpx.Client, sku: str) -> float:
    """Place an order, wait for its decision, and return the latency in milliseconds."""
    order = {
        "customer": {"email": "bench@example.com"},
        "currency": "EUR",
        "lines": [{"sku": sku, "quantity": 1, "unit_price": 100}],
    }
    posted = datetime.now(UTC)
    placed = client.post("/orders", json=order).raise_for_status()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        order_now = client.get(placed.headers["Location"]).raise_for_status().json()
        if order_now["decided_at"]:
            return (datetime.fromisoformat(order_now["decided_at"]) - posted).total_seconds() * 1000
        time.sleep(0.01)
    raise click.ClickException(f"order {order_now['id']} is not decided after {PATIENCE:.0f} s")


if __name__ == "__main__":
    main()
