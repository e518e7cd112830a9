"""An operator's action in the console: the next page shows its result, even if it has failed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import abort, flash, redirect, request
from sqlalchemy.exc import DBAPIError
from werkzeug.wrappers import Response

from console import operator_text
from console.errors import problem
from console.operator_text import REASON_LIMIT
from eventbus.errors import ExpectedError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of an action that leads to its own page, or has only begun."""

    result: str
    page: str | None = None
    kind: str = "done"


def act(
    message: str, action: Callable[[], str | Done], *, subject: str, page: str, **fields: Any
) -> Response:
    """Run an action, log its result under `message`, and show it on a page.

    The result follows the name of the `subject`, such as a service. `fields` are logged as well. A
    failure, even of a database, is a result and never an error page, so the operator stays on a
    page where the action can be repeated.
    """
    try:
        done = action()
    except (ExpectedError, DBAPIError) as error:
        done = Done(result=problem(error), kind="wrong")
    if isinstance(done, str):
        done = Done(result=done)
    flash(f"{subject}: {done.result}", done.kind)
    log.info(message, extra=fields | {"result": done.result})
    return redirect(done.page or page, code=303)


def entered_reason(limit: int = REASON_LIMIT) -> str:
    """Return the reason in the form of the current request; an invalid one is answered with 400."""
    reason = request.form.get("reason", "")
    if refused := operator_text.refusal(reason, limit):
        abort(400, f"The reason {refused}.")
    return operator_text.stored(reason)
