"""The table of docs/sizing.md follows from the measured figures."""

import pytest

from bench import results, scale_out, sizing


def test_the_committed_table_matches_the_code() -> None:
    committed = sizing.DOCUMENT.read_text()

    expected = sizing.updated(committed, results.read())
    assert committed == expected, "run: .venv/bin/python -m bench.sizing"


def test_the_committed_table_of_parts_matches_the_code() -> None:
    committed = scale_out.DOCUMENT.read_text()

    expected = scale_out.updated(committed, results.read())
    assert committed == expected, "run: .venv/bin/python -m bench.scale_out"


def test_parts_are_limited_by_the_slower_of_two() -> None:
    # Given figures of which one relay is limited by its price, and one alone
    figures = {
        "cpu_ms_per_order_by_program": {
            "order-relay": 0.5,
            "inventory-relay": 0.05,
            "inventory-worker": 0.5,
            "order-worker": 0.1,
        },
        "relay_per_s": {"ours": 10_000.0},
    }

    # Then a relay takes the smaller number, at a utilization of 0.6
    assert scale_out.relay_limit(figures, "order-relay") == pytest.approx(1_200)
    assert scale_out.relay_limit(figures, "inventory-relay") == pytest.approx(6_000)
    # And a part what its two children or its queue take
    assert scale_out.part_limit(figures, "inventory") == pytest.approx(2_400)
    assert scale_out.part_limit(figures, "order") == pytest.approx(6_000)


def test_a_need_grows_with_the_rate_and_with_the_price() -> None:
    # Given measured figures
    figures = {
        "cpu_ms_per_order": {"application": 3.0, "postgresql": 1.2, "rabbitmq": 0.6},
        "cpu_ms_per_order_by_program": {"api": 2.0, "order-relay": 0.1},
        "relay_per_s": {"ours": 5_000.0},
        "bytes_per_order": {"order": 3_000, "inventory": 2_000, "stream": 1_500},
    }

    # When the needs of two rates are computed
    need, ten_times = sizing.needs(figures, 600), sizing.needs(figures, 6_000)

    # Then 600 orders of 2 ms are 1.2 processors, at a utilization of 0.6
    assert need.processors["api"] == pytest.approx(2.0)
    assert need.processors["postgresql"] == pytest.approx(1.2)
    assert ten_times.processors["api"] == pytest.approx(20.0)
    # A relay is planned with 3,000 of its 5,000 events; an order has two events.
    assert (need.relays, ten_times.relays) == (1, 4)
    # A queue is planned with 6,000 of its 10,000 messages; an order has two messages.
    assert (need.shards, ten_times.shards) == (1, 2)
    assert (need.databases, need.nodes) == (1, 3)
    # 51.84 million orders a day
    assert (need.database_gb, need.stream_gb) == (pytest.approx(259.2), pytest.approx(77.76))
