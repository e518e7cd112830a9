"""The pages of failure groups: all of them, and one with its note, owner and mute."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any

from flask import abort, current_app, render_template, request, url_for
from werkzeug.wrappers import Response

from console.actions.parked import CONSUMERS
from console.operator_text import REASON_LIMIT
from console.parking import discards, memory, triage
from console.parking.redrive import plans
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.action import act
from console.web.parked import consumer_of, parked, start_indexing
from console.web.parking.readings import Readings
from console.web.queries import Queries, results


@parked.get("/parked/groups")
def show_groups() -> str:
    """Show the groups of all parked messages, the plans, and the discarded messages."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    readings: Readings = current_app.extensions["readings"]
    # The page waits once for all queries.
    futures: list[Future[Any]] = [
        *(
            readings.start(each.name, partial(memory.indexed, settings, each))
            for each in CONSUMERS.values()
        ),
        queries.start(partial(plans.newest, settings)),
        queries.start(partial(discards.newest, settings)),
    ]
    *by_service, of_plans, of_discards = results(futures)
    start_indexing(each.value.messages for each in by_service if each.value)
    return render_template(
        "groups.html",
        groups=dict(zip(CONSUMERS, by_service, strict=True)),
        plans=of_plans,
        discarded=of_discards,
    )


@parked.get("/parked/<service>/groups/<key>")
def show_group(service: str, key: str) -> str:
    """Show a group with its journal, and the forms to change it."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    shown = triage.show(settings, consumer_of(service), key)
    return render_template(
        "group.html",
        group=shown.memory,
        entries=shown.entries,
        limits=triage,
        reason_limit=REASON_LIMIT,
    )


@parked.post("/parked/<service>/groups/<key>/note")
def note(service: str, key: str) -> Response:
    """Set the note of a group."""

    def change(settings: ConsoleSettings) -> str:
        text = request.form.get("text", "")
        triage.note(settings, consumer_of(service), key, text, by=login.person().name)
        return "note stored"

    return _change(service, key, change)


@parked.post("/parked/<service>/groups/<key>/assign")
def assign(service: str, key: str) -> Response:
    """Set the owner of a group; an empty name removes the owner."""

    def change(settings: ConsoleSettings) -> str:
        owner = request.form.get("owner", "").strip() or None
        triage.assign(settings, consumer_of(service), key, owner, by=login.person().name)
        return "owner stored" if owner else "owner removed"

    return _change(service, key, change)


@parked.post("/parked/<service>/groups/<key>/mute")
def mute(service: str, key: str) -> Response:
    """Mute a group for a number of days, or end its mute."""
    days = request.form.get("days", "")
    if days not in map(str, range(triage.LONGEST_MUTE.days + 1)):
        abort(400, f"Specify 0 to {triage.LONGEST_MUTE.days} days.")

    def change(settings: ConsoleSettings) -> str:
        consumer, by = consumer_of(service), login.person().name
        if days == "0":
            triage.unmute(settings, consumer, key, by=by)
            return "not muted"
        reason = request.form.get("reason", "").strip()
        length = timedelta(days=int(days))
        muted = triage.mute(settings, consumer, key, length, by=by, reason=reason)
        return f"muted until {muted.muted_until:%Y-%m-%d %H:%M}"

    return _change(service, key, change)


def _change(service: str, key: str, change: Callable[[ConsoleSettings], str]) -> Response:
    settings: ConsoleSettings = current_app.extensions["settings"]
    page = url_for("parked.show_group", service=service, key=key)
    return act(
        "group changed",
        lambda: change(settings),
        subject=service,
        page=page,
        service=service,
        group=key,
    )
