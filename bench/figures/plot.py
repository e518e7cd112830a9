"""The plot of latency against rate: docs/latency.svg."""

from collections.abc import Mapping
from pathlib import Path

from deploy.local import REPOSITORY

PLOT = REPOSITORY / "docs" / "latency.svg"

#: Colour and marker of each percentile, readable on light and dark pages and without colours.
_LINES = {"p50": ("#0072b2", "o"), "p95": ("#e69f00", "s"), "p99": ("#d55e00", "^")}
_GREY = "#808080"


def draw(latency_ms: Mapping[str, Mapping[str, float]], path: Path = PLOT) -> None:
    """Write the plot of these latencies, by rate and percentile; equal figures give equal files."""
    # The import is here, because only `make bench` installs the library.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rates = sorted(map(int, latency_ms))
    with mpl.rc_context({"svg.hashsalt": "latency", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot(
            xlabel="orders per second", ylabel="POST to decision, milliseconds", yscale="log"
        )
        for name, (colour, marker) in _LINES.items():
            milliseconds = [latency_ms[str(rate)][name] for rate in rates]
            axes.plot(rates, milliseconds, color=colour, marker=marker, label=name)
        axes.set_xticks(rates, [str(rate) for rate in rates])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(visible=True, which="both", color=_GREY, alpha=0.25)
        axes.tick_params(colors=_GREY, which="both")
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(_GREY)
        for spine in axes.spines.values():
            spine.set_color(_GREY)
        axes.legend(frameon=False, labelcolor=_GREY)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
