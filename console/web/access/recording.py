"""The check of rights for each request, and the recording of actions and revealed data."""

import logging
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from flask import Flask, Response, abort, current_app, g, message_flashed, request

from console.access import audit
from console.access.audit import Entry, Outcome, Source
from console.access.rights import Person, Right
from console.web.access import endpoints, masking
from console.web.access.accounts import Accounts
from console.web.csrf import CHANGING
from eventbus.database.db import transaction

log = logging.getLogger(__name__)

#: The fields of forms that are recorded; other fields may contain personal data.
_RECORDED_FIELDS = ("reason",)

#: The endpoint of the overview, which shows no customer's data, and is refreshed every few seconds.
#: Its findings contain names of the broker's nodes, which have the form of addresses.
_WITHOUT_ADDRESSES = "overview.show"


#: The outcomes of actions by the kinds of their results.
_OUTCOMES = {"wrong": Outcome.FAILED, "begun": Outcome.BEGUN}


def install(app: Flask) -> None:
    """Check and record each request. Must be called after the login and the CSRF protection.

    An action is recorded before it begins, because its effect is in another database or on the
    broker, and again with its outcome.
    """
    app.before_request(_begin)
    app.after_request(_end)
    message_flashed.connect(_note_result, app)


def of_login(accounts: Accounts, name: str, outcome: Outcome) -> None:
    """Record a login. An unknown name is not recorded: it may be a password in the wrong field."""
    if outcome is Outcome.FAILED and not accounts.knows(name):
        name = "unknown"
    _store(accounts, Entry(source=Source.CONSOLE, person=name, action="login", outcome=outcome))


def later() -> Callable[[str, str], None]:
    """Return a function that records the kind and the text of the result of the current request.

    It is for an action that ends after the response, in another thread.
    """
    entry: Entry | None = g.get("audited")
    accounts = _accounts()

    def record(kind: str, result: str) -> None:
        if entry:
            outcome = _OUTCOMES.get(kind, Outcome.DONE)
            _store(accounts, replace(entry, outcome=outcome, detail=result))

    return record


def _begin() -> None:
    person: Person | None = g.get("person")
    if person is None:
        return
    entry = _entry(person)
    if refusal := endpoints.refusal(person):
        _store(_accounts(), replace(entry, outcome=Outcome.REFUSED))
        abort(HTTPStatus.FORBIDDEN, refusal)
    if request.method in CHANGING:
        g.audited = entry
        _store(_accounts(), entry)


def _end(response: Response) -> Response:
    person: Person | None = g.get("person")
    revealed = None if request.endpoint == _WITHOUT_ADDRESSES else _mask(person, response)
    begun: Entry | None = g.get("audited")
    if person and (begun or revealed):
        entry = begun or _entry(person)
        outcome, detail = _outcome(response)
        _store(_accounts(), replace(entry, outcome=outcome, detail=detail, revealed=revealed))
    return response


def _mask(person: Person | None, response: Response) -> str | None:
    reveals = person is not None and person.may(Right.REVEAL, endpoints.rule().target)
    names = {_accounts().fallback.name, *([person.name] if person else [])}
    return masking.apply(response, reveals=reveals, names=names)


def _entry(person: Person) -> Entry:
    arguments = request.view_args or {}
    subject = request.values.get("id") or "/".join(
        str(value) for name, value in arguments.items() if name != "service"
    )
    fields = (f"{name}: {request.form[name]}" for name in _RECORDED_FIELDS if name in request.form)
    return Entry(
        source=Source.CONSOLE,
        person=person.name,
        action=request.endpoint or "none",
        service=endpoints.rule().target,
        subject=subject or None,
        outcome=Outcome.BEGUN,
        detail="; ".join(fields) or None,
        request_id=uuid4(),
    )


def _note_result(_app: Flask, *, message: str, category: str, **_: Any) -> None:
    """Keep the result that an action shows on the next page."""
    g.result = (_OUTCOMES.get(category, Outcome.DONE), message)


def _outcome(response: Response) -> tuple[Outcome, str | None]:
    result: tuple[Outcome, str | None] = g.get("result", (Outcome.DONE, None))
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        return Outcome.FAILED, result[1] or response.status
    return result


def _accounts() -> Accounts:
    accounts: Accounts = current_app.extensions["accounts"]
    return accounts


def _store(accounts: Accounts, entry: Entry) -> None:
    def write(entry: Entry) -> None:
        with transaction(accounts.database) as session:
            audit.write(session, entry)

    if reason := audit.attempt(write, entry):
        fields = {name: value for name, value in vars(entry).items() if value is not None} | {
            "reason": reason
        }
        log.warning("audit line not stored", extra=fields)
