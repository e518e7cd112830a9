"""The page of people who may use the console, for administrators."""

from flask import Blueprint, abort, current_app, render_template, url_for
from werkzeug.wrappers import Response

from console.access import people as actions
from console.web.access import login
from console.web.access.accounts import Accounts
from console.web.action import act
from eventbus.database.db import transaction

people = Blueprint("people", __name__)


@people.get("/people")
def show() -> str:
    """List the people by name."""
    accounts: Accounts = current_app.extensions["accounts"]
    with transaction(accounts.database) as session:
        return render_template("people.html", people=actions.everyone(session))


@people.post("/people/<name>/disable")
def disable(name: str) -> Response:
    """End a person's logins and reject their password."""
    if name == login.person().name:
        abort(400, "Another administrator must disable you.")
    accounts: Accounts = current_app.extensions["accounts"]

    def end() -> str:
        with transaction(accounts.database) as session:
            actions.disable(session, name)
        return "disabled"

    return act("person disabled", end, subject=name, page=url_for("people.show"), person=name)
