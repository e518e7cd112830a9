"""PROCESS: the web console, `python -m common.http.server console.web.app`."""

import logging

from flask import Flask, Response, redirect, render_template, url_for
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as AnyResponse

from common.http import edge
from console.ledger.books import Books
from console.settings import ConsoleSettings
from console.web import characters, csrf, readable, secure_headers
from console.web import metrics as metrics_page
from console.web.access import endpoints, login, recording
from console.web.analytics import analytics
from console.web.audit import audit
from console.web.metrics import metrics
from console.web.orders import decisions as decisions
from console.web.orders.pages import orders, recent
from console.web.overview.live import Live
from console.web.overview.pages import overview
from console.web.parked import parked
from console.web.parking import edit as edit
from console.web.parking import groups as groups
from console.web.parking import history as history
from console.web.parking import plans as plans
from console.web.parking.changes import Changes
from console.web.parking.indexing import Indexing
from console.web.parking.readings import Readings
from console.web.parking.runs import Runs
from console.web.pauses import pauses
from console.web.people import people
from console.web.queries import Queries, problem
from console.web.stock import stock
from eventbus.errors import ExpectedError
from eventbus.settings.base import load
from eventbus.telemetry.logs import configure_logging

#: Maximum size of a form in bytes, which may contain an edited payload. Without a login, no body is
#: read.
FORM_LIMIT = 400_000


def create_app(settings: ConsoleSettings | None = None) -> Flask:
    """Return the application; by default with the settings of the environment."""
    settings = settings or load(ConsoleSettings)
    configure_logging(settings.log_level)
    # httpx logs a line for each request, and a page sends a dozen requests.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = Flask(__name__)
    app.config |= {
        "MAX_CONTENT_LENGTH": FORM_LIMIT,
        # A cookie carries an action's result to the next page.
        "SECRET_KEY": csrf.key(settings, "cookie"),
        "SESSION_COOKIE_NAME": "orders_console",
        "SESSION_COOKIE_SAMESITE": "Strict",
    }
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.extensions["settings"] = settings
    app.extensions["queries"] = queries = Queries()
    app.extensions["live"] = Live(app, settings, queries)
    app.extensions["readings"] = Readings(queries)
    app.extensions["indexing"] = Indexing(settings)
    app.extensions["changes"] = Changes(settings)
    app.extensions["runs"] = Runs(settings)
    app.extensions["stuck"] = recent()
    app.extensions["books"] = Books.kept(settings)
    app.extensions["metrics"] = metrics_page.registry(settings)
    app.jinja_env.globals["release"] = settings.release
    # The checks are installed in this order, so that nothing is disclosed before the login, which
    # looks up the name that was sent.
    characters.install(app)
    login.install(app, settings)
    edge.install(app, admits=login.admits)
    csrf.install(app, settings)
    recording.install(app)
    secure_headers.install(app)
    readable.install(app)
    for pages in (overview, orders, parked, stock, analytics, pauses, people, audit, metrics):
        app.register_blueprint(pages)
    _serve(app)
    endpoints.install(app)
    if proxies := settings.console_trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=0)  # type: ignore[method-assign]
    return app


def _serve(app: Flask) -> None:
    @app.get("/readyz")
    def ready() -> Response:
        # The probe covers only the console itself, which must be available when nothing else works.
        return Response("ready\n", content_type="text/plain")

    @app.get("/")
    def start() -> AnyResponse:
        return redirect(url_for("overview.show"))

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int]:
        return _error_page(error.name, error.description or "", error.code or 500)

    @app.errorhandler(ExpectedError)
    @app.errorhandler(DBAPIError)
    def failed(error: Exception) -> tuple[str, int]:
        return _error_page("This page is unavailable", problem(error), 503)


def _error_page(title: str, text: str, status: int) -> tuple[str, int]:
    return render_template("wrong.html", title=title, text=text), status
