"""The results, figures and document of `make bench`; measuring is not tested here."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import report, results
from bench.figures import plot, profiling
from bench.load import seeding
from bench.parts import flow, growth
from bench.system import cpu
from deploy.local.problem import Problem

LITTLE: dict[str, Any] = {"relay": 100.0, "inventory": 50.0, "intake": 10.0, "orders": 8.0}
LITTLE |= {"latency": {"p50": 1.0}, "price": {"application": 2.0}}


# --- Results ------------------------------------------------------------------------------------


def test_a_new_measurement_keeps_the_results_of_other_parts(tmp_path: Path) -> None:
    # Given results of two parts
    path = tmp_path / "results.json"
    results.record("relay", {"relay_ratio": 2.0}, {"repeat": 3}, path)
    earlier = results.record("intake", {"intake_ratio": 3.0}, {"repeat": 3}, path)

    # When one of them is measured again
    results.record("relay", {"relay_ratio": 4.0}, {"repeat": 1}, path)

    # Then the other one is unchanged
    figures = json.loads(path.read_text())
    assert (figures["relay_ratio"], figures["intake_ratio"]) == (4.0, 3.0)
    assert figures["parts"]["intake"] == earlier["parts"]["intake"]
    assert figures["parts"]["relay"]["repeat"] == 1
    assert figures["date"] == figures["parts"]["relay"]["date"]
    assert {"machine", "versions"} <= set(figures)


def test_a_broken_results_file_is_rejected_by_name(tmp_path: Path) -> None:
    # Given a file with a merge conflict
    path = tmp_path / "results.json"
    path.write_text("<<<<<<< ours")

    # Then it is rejected and left as it is
    with pytest.raises(Problem, match=r"results\.json"):
        results.record("relay", {"relay_ratio": 2.0}, {}, path)
    assert path.read_text() == "<<<<<<< ours"


def test_the_committed_results_have_every_documented_key() -> None:
    # Given the committed results
    figures = results.read()

    # Then they contain every key
    for name in ("relay_ratio", "inventory_ratio", "intake_ratio", "orders_per_s", "growth_ratio"):
        assert figures[name] > 0, name
    for rate in ("20", "50", "100", "200"):
        assert list(figures["latency_ms"][rate]) == ["p50", "p95", "p99"], rate
    assert list(figures["cpu_ms_per_order"]) == ["application", "postgresql", "rabbitmq"]
    assert {"machine", "versions", "date"} <= set(figures)
    assert set(figures["growth"]) == set(growth.PARTS)


# --- Figures ------------------------------------------------------------------------------------


def test_the_growth_ratio_is_the_smallest_of_all_parts() -> None:
    # Given results of a large database
    much = LITTLE | {"inventory": 25.0, "relay": 90.0, "intake": 11.0}

    # When they are compared with those of a small one
    figures = growth.summary(LITTLE, much)

    # Then the ratio is the smallest one
    assert figures["growth_ratio"] == figures["growth"]["inventory"]["ratio"] == 0.5
    assert figures["growth"]["relay"]["ratio"] == 0.9
    assert figures["growth"]["intake"]["ratio"] == 1.1


def test_the_price_of_an_order_is_split_by_program() -> None:
    # Given CPU times before and after a run
    before = {"api": 1.0, "postgresql": 10.0, "rabbitmq": 5.0}
    after = {"api": 2.0, "order-worker": 0.5, "postgresql": 12.0, "rabbitmq": 5.5}

    # When the price of an order is computed
    price = cpu.price(before, after, 1000)

    # Then it is split by program and by server
    assert cpu.split(price) == {"application": 1.5, "postgresql": 2.0, "rabbitmq": 0.5}
    assert cpu.of_programs(price) == {"api": 1.0, "order-worker": 0.5}
    # And in two seconds, two processors were busy
    assert cpu.cores(before, after, 2.0) == 2.0


def test_processor_time_includes_ended_children() -> None:
    # Given a process whose child works for a while and exits
    work = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {work!r}], check=True)
print("ended", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()

        # Then its time includes that of its child
        assert cpu.seconds(process.pid) >= 0.3
        process.communicate()


def test_the_processor_time_of_an_ended_process_is_zero() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert cpu.seconds(process.pid) == 0.0


def test_percentiles_are_interpolated() -> None:
    assert flow.percentiles([float(ms) for ms in range(1, 1001)]) == pytest.approx(
        {"p50": 500.5, "p95": 950.95, "p99": 990.99}
    )


def test_a_seed_that_does_not_fit_on_the_disk_is_rejected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a disk with 20 GB free
    usage = SimpleNamespace(free=20_000_000_000)
    monkeypatch.setattr(seeding.shutil, "disk_usage", lambda _: usage)

    # Then a small seed is accepted and a large one is rejected
    seeding.require_space(tmp_path, 1_000_000)
    with pytest.raises(Problem, match=r"20 GB free.*10,000,000 rows.*--rows"):
        seeding.require_space(tmp_path, 10_000_000)


def test_the_top_functions_have_the_most_own_time() -> None:
    # Given main, which calls encode and, seldom, decode
    frames = [
        {"name": "main", "file": "app.py"},
        {"name": "encode", "file": "/x/site-packages/json/encoder.py"},
        {"name": "decode", "file": "/x/site-packages/json/decoder.py"},
        {"name": "process 7:/x/bin/python", "file": ""},
    ]
    profiles = [
        {"samples": [[0, 1], [0, 1], [0]], "weights": [0.01, 0.03, 0.01]},
        {"samples": [[0, 2], [], [3]], "weights": [0.05, 1.0, 2.0]},
    ]

    # When the two functions with the most time are computed
    functions = profiling.top({"shared": {"frames": frames}, "profiles": profiles}, shown=2)

    # Then the time of their callees is not included
    assert functions == [("decode (json/decoder.py)", 50.0), ("encode (json/encoder.py)", 40.0)]


# --- Documents ----------------------------------------------------------------------------------


def test_the_document_has_the_figures_of_the_results() -> None:
    document = report.DOCUMENT.read_text()
    assert report.updated(document, results.read()) == document


def test_the_document_follows_the_results() -> None:
    # Given other results than those in the document
    document = report.DOCUMENT.read_text()
    figures = results.read() | {"relay_ratio": 98765.43}

    # Then the document contains their figures
    assert "98765.43" in report.updated(document, figures)


def test_a_document_without_a_marker_is_rejected() -> None:
    with pytest.raises(Problem, match="<!-- machine -->"):
        report.updated("# Performance", {})


def test_a_table_without_a_measurement_states_so() -> None:
    assert report.text({}).count("Not measured yet") == len(report.BLOCKS)


def test_the_plot_of_the_same_figures_is_identical(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="make bench installs it")
    # Given latencies at two rates
    latency = {"20": {"p50": 30.0, "p95": 50.0, "p99": 60.0}}
    latency |= {"100": {"p50": 40.0, "p95": 90.0, "p99": 200.0}}
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"

    # When they are plotted twice
    plot.draw(latency, one)
    plot.draw(latency, other)

    # Then both files are equal and contain the labels
    assert one.read_bytes() == other.read_bytes()
    for word in ("p50", "p95", "p99", "20", "100", "orders per second"):
        assert f">{word}<" in one.read_text(), word
