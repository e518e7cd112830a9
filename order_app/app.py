"""The Flask app of the orders API, which `order_app.server` serves."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flask_openapi3.openapi import OpenAPI

from common.http import edge
from eventbus.database import db as database
from eventbus.settings.base import load
from eventbus.telemetry import tracing
from eventbus.telemetry.certificate_expiry import Certificates, sources
from eventbus.telemetry.logs import configure_logging
from order_app.http import (
    access,
    access_log,
    client_address,
    load_shedding,
    openapi,
    problems,
    secure_headers,
)
from order_app.http.json_body import BODY_LIMIT, JsonRequest
from order_app.http.metrics import Metrics
from order_app.http.probes import probes
from order_app.http.routes import orders
from order_app.settings import ApiSettings
from order_app.storage import group_commit, intake
from order_app.storage.models import db


class App(OpenAPI):
    """A Flask app without asynchronous functions."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged: Flask would check at each request whether it is async."""
        return func


def create_app(settings: ApiSettings | None = None) -> OpenAPI:
    """Return the API; by default, its settings come from the environment."""
    settings = settings or load(ApiSettings)
    configure_logging(settings.log_level)
    tracing.start("order-api", settings)
    app = App(
        __name__,
        info=openapi.INFO,
        doc_ui=False,
        static_folder=None,
        security_schemes=openapi.SECURITY_SCHEMES,
        validation_error_model=problems.Problem,
        validation_error_callback=problems.invalid,
    )
    app.url_map.merge_slashes = False
    app.request_class = JsonRequest
    client_address.install(app, trusted_proxies=settings.api_trusted_proxies)
    app.extensions["order_settings"] = settings
    app.extensions["order_metrics"] = Metrics(
        settings.prometheus_multiproc_dir,
        release=settings.release,
        certificates=Certificates(sources(settings)),
        # Metrics have their own engine, because they must be served while the database does not
        # respond.
        database=database.sessions(database.scrape_engine(settings)),
    )
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.config["SQLALCHEMY_DATABASE_URI"] = database.url(settings)
    options = database.engine_options(settings, pool_size=settings.api_pool_size, is_limited=True)
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    app.config["SQLALCHEMY_BINDS"] = {
        intake.BIND: {"url": database.url(settings), **intake.engine_options(settings)}
    }
    db.init_app(app)
    group_commit.install(
        app,
        patience=settings.database_statement_timeout,
        limit=database.response_limit(settings),
    )
    problems.install(app)
    secure_headers.install(app)
    access_log.install(app, traces_per_second=settings.traces_per_second)
    edge.install(app, admits=partial(access.admits, app))
    app.register_api(orders)
    app.register_api(probes)
    openapi.install(app, currencies=settings.order_currencies)
    load_shedding.install(app, settings)
    access.install(app, settings)
    return app
