"""The authentication of each request, by the cookie of a login or by HTTP basic authentication."""

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as AnyResponse

from console.access.audit import Outcome
from console.access.rights import Person
from console.settings import ConsoleSettings
from console.web import csrf
from console.web.access import recording
from console.web.access.accounts import Accounts, TooManyAttempts
from console.web.access.attempts import WAIT
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

login = Blueprint("login", __name__)

#: The name of the cookie of a login.
COOKIE = "orders_console_login"

#: The endpoints that require no login: those of load balancers, supervisors and Prometheus, and the
#: login page.
_OPEN = {"ready", "metrics.page", "static", "login.form", "login.enter"}

_PATH = "/login"

_UNAVAILABLE = "the console's database is unavailable, so only CONSOLE_USER can log in"


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Require a login for everything except the endpoints of probes, metrics and the login page."""
    accounts = Accounts.of(settings)
    app.extensions["accounts"] = accounts
    app.register_blueprint(login)
    app.context_processor(lambda: {"person": g.get("person")})

    @app.before_request
    def authenticate() -> AnyResponse | None:
        if request.endpoint in _OPEN:
            return None
        try:
            g.person = _by_password(accounts) if request.authorization else _by_cookie(accounts)
        except TooManyAttempts:
            return _too_many()
        except SQLAlchemyError as error:
            log.warning("login not checked", extra={"reason": described(error)})
            return _challenge(_UNAVAILABLE)
        return None if g.person else _please()


def admits(environ: Mapping[str, Any]) -> bool:
    """Return whether the body of a request may be needed: it has credentials, or is a login."""
    return (
        "HTTP_AUTHORIZATION" in environ
        or COOKIE in environ.get("HTTP_COOKIE", "")
        or environ.get("PATH_INFO") == _PATH
    )


def person() -> Person:
    """Return the person of the current request."""
    found: Person = g.person
    return found


@login.get(_PATH)
def form() -> str:
    """Show the login page."""
    csrf.bind_form()
    return render_template("login.html", target=_local(request.args.get("next", "")))


@login.post(_PATH)
def enter() -> AnyResponse:
    """Check a name and a password, and start a login with a new token."""
    accounts: Accounts = current_app.extensions["accounts"]
    name, password = request.form.get("name", "").strip(), request.form.get("password", "")
    target = _local(request.form.get("next", ""))
    try:
        # The request has the credentials of the browser's own prompt, which was shown because of an
        # outage.
        if request.authorization and _by_password(accounts):
            return redirect(target, code=303)
        found = accounts.check(request, name, password)
        if found is None:
            recording.of_login(accounts, name, Outcome.FAILED)
            page = render_template("login.html", target=target, name=name, is_wrong=True)
            return Response(page, 401)
        if old := request.cookies.get(COOKIE):
            accounts.end(old)
        token = secrets.token_urlsafe(32)
        accounts.start(token, found)
    except TooManyAttempts:
        return _too_many()
    except SQLAlchemyError as error:
        log.warning("login not checked", extra={"reason": described(error)})
        return _challenge(_UNAVAILABLE)
    recording.of_login(accounts, found.name, Outcome.DONE)
    session.clear()
    response = redirect(target, code=303)
    response.set_cookie(COOKIE, token, secure=request.is_secure, httponly=True, samesite="Strict")
    return response


@login.post("/logout")
def leave() -> AnyResponse:
    """End the login, even if its row cannot be deleted now."""
    accounts: Accounts = current_app.extensions["accounts"]
    try:
        accounts.end(request.cookies.get(COOKIE, ""))
    except SQLAlchemyError as error:
        log.warning("login not ended", extra={"reason": described(error)})
    session.clear()
    response = redirect(url_for("login.form"), code=303)
    response.delete_cookie(COOKIE, secure=request.is_secure, httponly=True, samesite="Strict")
    return response


def _by_cookie(accounts: Accounts) -> Person | None:
    token = request.cookies.get(COOKIE, "")
    if not token:
        return None
    # The automatic refresh of a page is not an action of a person, and must not extend an idle
    # login.
    is_refresh = request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
    found = accounts.find(token, touch=not is_refresh)
    g.binding = token
    return found


def _by_password(accounts: Accounts) -> Person | None:
    given = request.authorization
    if not given or given.type != "basic":
        return None
    name, password = given.username or "", given.password or ""
    found = accounts.check(request, name, password)
    if found is None:
        recording.of_login(accounts, name, Outcome.FAILED)
    g.binding = f"basic {name}"
    return found


def _please() -> AnyResponse:
    """Return the login page's address to a browser, and a challenge to any other client."""
    is_browser = "Sec-Fetch-Mode" in request.headers or "text/html" in request.headers.get(
        "Accept", ""
    )
    if not is_browser or request.authorization:
        return _challenge("")
    if request.method == "GET":
        return redirect(url_for("login.form", next=request.full_path.rstrip("?")), code=303)
    return redirect(url_for("login.form"), code=303)


def _challenge(problem: str) -> Response:
    headers = {"WWW-Authenticate": 'Basic realm="orders console", charset="UTF-8"'}
    text = f"log in: {problem}\n" if problem else "log in\n"
    return Response(text, 401, headers, content_type="text/plain")


def _too_many() -> Response:
    text = "Too many logins have failed. Try again in a minute.\n"
    return Response(text, 429, {"Retry-After": str(WAIT)}, content_type="text/plain")


def _local(target: str) -> str:
    """Return a path of this site, even if a link contains the address of another site."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() else url_for("overview.show")
