"""The page of the audit log, for administrators."""

from datetime import UTC, datetime

from flask import Blueprint, abort, current_app, render_template, request

from console.access import audit as log
from console.web.access.accounts import Accounts
from eventbus.database.db import transaction

audit = Blueprint("audit", __name__)

#: Maximum number of lines on one page.
LIMIT = 100


@audit.get("/audit")
def show() -> str:
    """Show the newest lines of a person, an action and a time, or the lines before a line."""
    accounts: Accounts = current_app.extensions["accounts"]
    person, action = (request.args.get(name, "").strip() for name in ("person", "action"))
    since = request.args.get("since", "").strip()
    with transaction(accounts.database) as session:
        # One more line is read than is shown, to detect whether there are more.
        lines = log.newest(
            session,
            person=person,
            action=action,
            since=_day(since),
            before=_number(request.args.get("before", "")),
            limit=LIMIT + 1,
        )
    return render_template(
        "audit.html",
        lines=lines[:LIMIT],
        before=lines[LIMIT - 1].id if len(lines) > LIMIT else None,
        wanted={"person": person, "action": action, "since": since},
    )


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        abort(400, "The first day must be a date, such as 2026-11-29.")


def _number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        abort(400, "The line before which the page ends must be a number.")
    return int(text)
