"""`orderctl trace`: the path of an order through all services, with durations."""

import json
from itertools import groupby
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from console.actions import trace as actions
from console.commands.execution.effect import shows
from console.commands.table import printable
from console.monitoring.waterfall import Fall, waterfall
from console.settings import DatabaseSettings, load_operator
from span_store.models import SpanRow


@click.group()
def trace() -> None:
    """Show the work that followed from one request, in every service."""


@trace.command(epilog="Example: orderctl trace show 01a203e2-f309-7509-a3d7-8edb83dd749c")
@shows
@click.argument("order_or_trace", metavar="ORDER_ID|TRACE_ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(order_or_trace: str, *, as_json: bool) -> None:
    """Show the traces of an order, or one trace: each span below its parent.

    A span that a process has not sent yet, or lost when it was killed, is missing.
    """
    spans = actions.find(load_operator(DatabaseSettings), order_or_trace)
    traces = _traces(spans)
    if as_json:
        click.echo(json.dumps([_document(*trace) for trace in traces.items()], indent=2))
        return
    for trace_id, falls in traces.items():
        _print(trace_id, falls)


def _traces(spans: list[SpanRow]) -> dict[str, list[Fall]]:
    first = {span.trace_id: index for index, span in reversed(list(enumerate(spans)))}
    by_trace = sorted(spans, key=lambda span: first[span.trace_id])
    return {key: waterfall(list(group)) for key, group in groupby(by_trace, lambda s: s.trace_id)}


def _print(trace_id: str, falls: list[Fall]) -> None:
    table = Table("span", "service", box=None, pad_edge=False, title_justify="left")
    table.add_column("start ms", justify="right")
    table.add_column("ms", justify="right")
    table.add_column("outcome")
    start = min(fall.span.started_at for fall in falls)
    for fall in falls:
        span = fall.span
        table.add_row(
            Text(f"{'  ' * fall.depth}{'… ' if fall.is_orphan else ''}{printable(span.name)}"),
            Text(printable(span.service)),
            f"{(span.started_at - start).total_seconds() * 1000:.1f}",
            f"{span.microseconds / 1000:.1f}",
            _outcome(span),
        )
    terminal = Console()
    # Without a terminal, lines are not cut, because the output goes to a script or a file.
    console = Console(width=None if terminal.is_terminal else 200)
    console.print(f"trace {trace_id}", highlight=False)
    console.print(table)


def _outcome(span: SpanRow) -> Text:
    attempt = span.attributes.get("attempt")
    words = [
        f"attempt {attempt}" if attempt else "",
        str(span.attributes.get("outcome") or span.attributes.get("http.response.status_code", "")),
        span.reason or "",
    ]
    outcome = printable(", ".join(word for word in words if word))
    return Text(outcome, style="red" if span.status == "error" else "")


def _document(trace_id: str, falls: list[Fall]) -> dict[str, Any]:
    start = min(fall.span.started_at for fall in falls)
    return {
        "trace_id": trace_id,
        "started_at": start.isoformat(),
        "spans": [
            {
                "span_id": fall.span.span_id,
                "parent_id": fall.span.parent_id,
                "service": fall.span.service,
                "name": fall.span.name,
                "kind": fall.span.kind,
                "start_ms": (fall.span.started_at - start).total_seconds() * 1000,
                "duration_ms": fall.span.microseconds / 1000,
                "status": fall.span.status,
                "reason": fall.span.reason,
                "attributes": fall.span.attributes,
            }
            for fall in falls
        ],
    }
