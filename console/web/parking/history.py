"""The page with the history of one message."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from flask import abort, current_app, render_template, request

from console.parking import history
from console.parking.history import Line
from console.settings import ConsoleSettings
from console.web.parked import consumer_of, parked
from console.web.queries import Queries, results
from eventbus.topology.service import Service

#: A function that reads a part of a message's history.
Source = Callable[[ConsoleSettings, Service, str], list[Line]]


@parked.get("/parked/<service>/history")
def show_history(service: str) -> str:
    """Show what happened to a message, from each source that responds."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    consumer, event_id = consumer_of(service), request.args.get("id", "")
    if not event_id:
        abort(400, "Specify one event.")
    sources: dict[str, Source] = {
        "The parking lot": history.attempts,
        "The record of plans, edits and discards": history.changes,
        f"The inbox of the {consumer.name} service": history.handling,
    }
    futures: list[Future[Any]] = [
        queries.start(partial(source, settings, consumer, event_id)) for source in sources.values()
    ]
    found = dict(zip(sources, results(futures), strict=True))
    return render_template(
        "history.html",
        service=consumer,
        event_id=event_id,
        lines=history.in_order(*(result.value or () for result in found.values())),
        unseen={name: result.problem for name, result in found.items() if result.problem},
    )
