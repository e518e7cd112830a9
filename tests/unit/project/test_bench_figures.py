"""The figures of `make bench`: repeats, prices, rates and ratios; measuring is not tested here."""

import subprocess
import sys
from typing import Any

import pytest

from bench.figures import curve_report
from bench.figures.curve_report import full
from bench.figures.spread import merged, shown, spread
from bench.parts import baseline, curve, flow
from bench.plain import inventory, notification, orders, topology
from bench.system import cpu, measured
from common.kombu_topology import INVENTORY, NOTIFICATION, ORDER

CALIBRATION = {"python_per_s": 20_000.0, "commits_per_s": 900.0, "confirms_per_s": 800.0}


def limit(orders_per_s: float, price: float) -> dict[str, Any]:
    """Return the result of a run at the limit."""
    return {
        "orders_per_s": orders_per_s,
        "price_ms": cpu.parts({"api": price}),
        "cpu_ms": {"api": price},
        "calibration": CALIBRATION,
    }


def at(rate: float, price: float, p50: float) -> dict[str, Any]:
    """Return the result of a run at a constant rate."""
    return {
        "rate": rate,
        "price_ms": cpu.parts({"api": price}),
        "cpu_ms": {"api": price},
        "cores": rate * price / 1000,
        "latency_ms": {"p50": p50, "p95": 2 * p50, "p99": 3 * p50},
        "calibration": CALIBRATION,
    }


# --- Repeats ------------------------------------------------------------------------------------


def test_repeats_are_reduced_to_median_and_range() -> None:
    assert spread([3.0, 1.0, 8.0]) == {"median": 3.0, "min": 1.0, "max": 8.0}


def test_each_figure_of_a_group_has_its_own_spread() -> None:
    # Given a program that is missing in one of the repeats
    repeats = [{"rate": 5.0, "cpu_ms": {"api": 1.0, "beat": 0.5}}, {"cpu_ms": {"api": 3.0}}]

    # When they are merged
    summary = merged(repeats)

    # Then each figure has a median and its range
    assert summary["cpu_ms"]["api"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert summary["cpu_ms"]["beat"] == {"median": 0.25, "min": 0.0, "max": 0.5}
    assert summary["rate"]["max"] == 5.0


def test_a_spread_is_shown_only_if_the_repeats_differ() -> None:
    assert shown(spread([2.0])) == "2.0"
    assert shown(spread([1.0, 2.0, 4.0])) == "2.0 (1.0 to 4.0)"


# --- Prices -------------------------------------------------------------------------------------


def test_a_price_separates_work_from_monitoring() -> None:
    # Given the price of an order by program
    price = {"api": 2.0, "spans": 1.0, "flower": 0.5, "postgresql": 3.0, "rabbitmq": 1.5}

    # Then it is summed by group
    assert cpu.parts(price) == {
        "total": 8.0,
        "observers": 1.5,
        "application": 2.0,
        "postgresql": 3.0,
        "rabbitmq": 1.5,
    }


def test_a_program_that_has_ended_is_named() -> None:
    # Given a running program and a zombie
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert dead.stdout
    dead.stdout.read()
    leaders = {"alive": alive.pid, "dead": dead.pid}
    try:
        # Then only the second one has ended
        while measured.ended(leaders) != ["dead"]:
            pass
        assert alive.pid in measured.families(leaders)["alive"]
    finally:
        alive.communicate(b"\n")
        dead.communicate()
    assert measured.ended(leaders) == ["alive", "dead"]


# --- Rates --------------------------------------------------------------------------------------


def test_a_curve_has_fixed_rates_and_fractions_of_the_limit() -> None:
    assert curve.rates(120.0) == {
        **{"5": 5, "20": 20, "50": 50, "100": 100},
        **{"25%": 30.0, "50%": 60.0, "70%": 84.0, "90%": 108.0, "100%": 120.0},
    }


def test_the_load_is_shortened_if_decisions_lag_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a system that decides orders at a third of the rate at which it accepts them
    loads: list[int] = []

    def throughput(_: object, seconds: int, **options: object) -> flow.Throughput:
        loads.append(seconds)
        return flow.Throughput(orders=300 * seconds, orders_per_s=100.0, cpu_ms={})

    monkeypatch.setattr(flow, "throughput", throughput)

    # When the limit is measured
    flow.limit(None, 60)  # type: ignore[arg-type]

    # Then the load lasts a third of the time
    assert loads == [3, 20]


# --- Ratios -------------------------------------------------------------------------------------


def test_ratios_are_computed_for_each_turn() -> None:
    # Given a machine that is half as fast in the second turn
    ours = [{"limit": limit(n, 2.0), "rates": {"20": at(20, 8.0, 30.0)}} for n in (400.0, 200.0)]
    plain = [{"limit": limit(n, 40.0), "rates": {"20": at(20, 32.0, 90.0)}} for n in (40.0, 20.0)]

    # When the results are compared
    summary = baseline.summary({"ours": ours, "full": ours, "plain": plain})

    # Then the ratios are those of each turn
    assert summary["orders_ratio"] == 10.0
    assert summary["cpu_ratio"] == 0.05
    assert summary["latency_ratio"] == 0.333
    compared = summary["baseline"]["ratios"]["ours"]
    assert compared["orders"] == {"median": 10.0, "min": 10.0, "max": 10.0}
    assert compared["cpu"]["20"]["median"] == 0.25
    assert summary["baseline"]["plain"]["limit"]["orders_per_s"]["median"] == 30.0


def test_a_rate_that_one_system_skipped_is_not_compared() -> None:
    # Given a plain build that was not measured at one rate
    both = {"20": at(20, 8.0, 30.0), "50": at(50, 8.0, 30.0)}
    ours = [{"limit": limit(400, 2.0), "rates": both}] * 2
    plain = [
        {"limit": limit(60, 40.0), "rates": both},
        {"limit": limit(50, 40.0), "rates": {"20": at(20, 8.0, 30.0)}},
    ]

    # When they are compared
    summary = baseline.summary({"ours": ours, "full": ours, "plain": plain})

    # Then that rate is left out
    assert list(summary["baseline"]["ratios"]["ours"]["cpu"]) == ["limit", "20"]
    assert list(summary["baseline"]["plain"]["rates"]) == ["20"]
    assert list(summary["baseline"]["ours"]["rates"]) == ["20", "50"]


def test_a_system_without_rates_is_compared_at_the_limit_only() -> None:
    # Given systems that were measured at the limit only
    none = [{"limit": limit(10, 40.0), "rates": {}}]

    # When they are compared
    summary = baseline.summary({"ours": none, "full": none, "plain": none})

    # Then there is no ratio of latencies
    assert (summary["orders_ratio"], summary["latency_ratio"]) == (1.0, None)


# --- The plain build ----------------------------------------------------------------------------


def test_the_plain_build_has_a_task_for_every_consumed_event() -> None:
    apps = {
        topology.INVENTORY: inventory.app,
        topology.ORDERS: orders.app,
        topology.NOTIFICATION: notification.app,
    }
    for queue, types in topology.BINDINGS.items():
        own = {name for name in apps[queue].tasks if not name.startswith("celery.")}
        assert own == set(types), queue


def test_the_plain_build_consumes_no_additional_event() -> None:
    ours = {
        topology.INVENTORY: INVENTORY,
        topology.ORDERS: ORDER,
        topology.NOTIFICATION: NOTIFICATION,
    }
    for queue, types in topology.BINDINGS.items():
        assert set(types) <= set(ours[queue].consumes), queue


# --- Documents ----------------------------------------------------------------------------------


def test_the_curve_is_sorted_by_rate_and_has_its_calibration() -> None:
    # Given results of a curve
    system = {
        "limit": merged([limit(104.0, 19.0), limit(110.0, 18.0)]),
        "curve": {"50": merged([at(50, 30.0, 371.0)]), "25%": merged([at(27.0, 31.0, 90.0)])},
    }
    summary = {"full": system, "parts": {"full": {"date": "2026-11-28", "seconds": 60}}}

    # When they are formatted
    text = full(summary)

    # Then the table is sorted by rate and has the calibration
    assert "**107 (104 to 110) orders per second**" in text
    assert text.index("| 27 (25%) |") < text.index("| 50 |")
    assert "| 20,000 | 900 | 800 |" in text
    assert "| `api` | 18.50 | 31.00 | 30.00 |" in text


def test_the_comparison_is_shown_with_its_figures() -> None:
    # Given results of one turn
    turn = [{"limit": limit(52.0, 39.0), "rates": {"20": at(20, 40.0, 97.0)}}]
    summary = baseline.summary({"ours": turn, "full": turn, "plain": turn})
    summary["parts"] = {"baseline": {"date": "2026-11-28", "seconds": 60}}

    # When they are formatted
    text = curve_report.baseline(summary)

    # Then the tables have the ratios and the figures behind them
    assert "| ours, the same services | orders per second | limit | 1 |" in text
    assert "| plain | 20 | 40.0 | 97.0 | 291.0 |" in text
