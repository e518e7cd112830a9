"""The pages of an edit: the payload in a form, the difference, and the confirmation."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import abort, current_app, render_template, request
from werkzeug.wrappers import Response

from console.errors import ActionError
from console.operator_text import REASON_LIMIT
from console.parking import edit as edits
from console.parking import lookup
from console.parking.edit import Edit, Original
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.action import entered_reason
from console.web.parked import act_on, consumer_of, in_time, parked
from eventbus.topology.service import Service


@parked.get("/parked/<service>/edit")
def edit(service: str) -> str:
    """Show the payload of a message in a form."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    original = in_time(partial(_original, settings, consumer_of(service), request.args.to_dict()))
    return _form(original, original.text)


@parked.post("/parked/<service>/edit/preview")
def preview_edit(service: str) -> str | tuple[str, int]:
    """Show the difference that an edit makes, or the form again if it is invalid."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    original = in_time(partial(_original, settings, consumer_of(service), request.form.to_dict()))
    payload = request.form.get("payload", "")
    try:
        wanted = _edit(original, payload)
    except ActionError as error:
        return _form(original, payload, str(error)), 422
    return render_template(
        "edit_preview.html",
        edit=wanted,
        payload=payload,
        reason=entered_reason(),
        redrive=_redrive(),
    )


@parked.post("/parked/<service>/edit")
def confirm_edit(service: str) -> Response:
    """Make an edit that was previewed, and show the result on the list."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    consumer, event_id = consumer_of(service), request.form.get("id", "")
    if not (event_id and request.form.get("digest")):
        abort(400, "Specify one event, and the digest of its message.")
    reason, redrive, by = entered_reason(), _redrive(), login.person().name
    form = request.form.to_dict()

    def replace() -> str:
        original = _original(settings, consumer, form)
        edits.publish(
            settings,
            consumer,
            _edit(original, form.get("payload", "")),
            reason=reason,
            edited_by=by,
            redrive=redrive,
        )
        result = f"redriven to {consumer.queue}" if redrive else "parked again"
        return f"{event_id} edited and {result}"

    return act_on("edit requested", consumer, event_id, replace)


def _original(settings: ConsoleSettings, consumer: Service, fields: Mapping[str, str]) -> Original:
    event_id, digest = fields.get("id", ""), fields.get("digest", "")
    return edits.read(settings, consumer, event_id, digest, find=lookup.find)


def _form(original: Original, payload: str, problem: str = "") -> str:
    return render_template(
        "edit.html",
        original=original,
        payload=payload,
        problem=problem,
        reason=request.form.get("reason", ""),
        redrive=request.form.get("redrive", "yes"),
        limit=REASON_LIMIT,
    )


def _edit(original: Original, payload: str) -> Edit:
    return edits.edit(original, _decoded(payload))


def _decoded(payload: str) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ActionError(f"the payload is not JSON: {error}") from None


def _redrive() -> bool:
    value = request.form.get("redrive", "")
    if value not in ("yes", "no"):
        abort(400, "Specify whether the message is redriven.")
    return value == "yes"
