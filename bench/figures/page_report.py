"""The console's pages as tables: the duration of each, and the cost of viewers."""

from typing import Any

from bench.figures.tables import NONE, how, table
from bench.results import Results

#: The goal for a page, in milliseconds.
GOAL = 200.0


def pages(figures: Results) -> str:
    """Return the duration of each page, the slowest first, and the cost of viewers."""
    if not (measured := figures.get("pages")):
        return NONE
    rows = sorted(measured["ms"], key=lambda row: -row["p50"])
    slow = sum(row["p50"] > GOAL for row in rows)
    viewers = measured["viewers"]
    return (
        f"With {measured['orders']:,} orders and {measured['parked']:,} parked messages"
        f" ({how(figures, 'pages')}), the median of {len(rows) - slow} of {len(rows)} pages is at"
        f" most {GOAL:.0f} ms.\n\n"
        + table(("page", "p50, ms", "p99, ms", "incomplete"), map(_row, rows))
        + "\n\n"
        + table(
            ("viewers of the overview", "orders per second", "ratio"),
            [
                ("0", f"{viewers['without_per_s']:,.0f}", ""),
                (
                    str(viewers["number"]),
                    f"{viewers['with_per_s']:,.0f}",
                    f"{viewers['ratio']:.3f}",
                ),
            ],
        )
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    incomplete = str(row["incomplete"] or "")
    return row["page"], f"{row['p50']:,.1f}", f"{row['p99']:,.1f}", incomplete
