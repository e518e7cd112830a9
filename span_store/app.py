"""PROCESS: a receiver of spans over OTLP/HTTP, `python -m common.http.server span_store.app`.

It has no authentication: bind it to 127.0.0.1 only.
"""

import logging
import time
from datetime import timedelta
from http import HTTPStatus

import psycopg2
from flask import Flask, Response, request
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from common.http import edge
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.settings.base import load
from eventbus.telemetry.logs import configure_logging
from span_store import otlp, store
from span_store.otlp import Unreadable
from span_store.settings import SpanStoreSettings

log = logging.getLogger(__name__)

PROTOBUF = "application/x-protobuf"

#: Seconds between two deletions of old spans.
FORGET_INTERVAL = 60.0

#: Number of database connections, one for each thread of the server.
_POOL_SIZE = 4


def create_app(settings: SpanStoreSettings | None = None) -> Flask:
    """Return the receiver, by default with the settings from the environment."""
    settings = settings or load(SpanStoreSettings)
    configure_logging(settings.log_level)
    sessions = db.sessions(db.engine(settings, pool_size=_POOL_SIZE, is_limited=True))
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = otlp.SIZE_LIMIT
    edge.install(app)
    _serve(app, sessions, _Retention(timedelta(seconds=settings.span_retention)))
    return app


class _Retention:
    """Periodic deletion of old spans, when new spans arrive: only then does the table grow."""

    def __init__(self, age: timedelta) -> None:
        self._age = age
        self._next = 0.0

    def apply(self, sessions: Sessions) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + FORGET_INTERVAL
        with transaction(sessions) as session:
            has_more = store.forget(session, self._age) == store.DELETION
        if has_more:
            self._next = 0.0


def _serve(app: Flask, sessions: Sessions, retention: _Retention) -> None:
    @app.post("/v1/traces")
    def export() -> Response:
        if request.mimetype != PROTOBUF:
            return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {PROTOBUF}")
        rows = otlp.rows(request.get_data(), gzip=request.content_encoding == "gzip")
        store.keep(sessions, rows)
        retention.apply(sessions)
        # An empty ExportTraceServiceResponse: all spans were accepted.
        return Response(b"", content_type=PROTOBUF)

    @app.get("/readyz")
    def ready() -> Response:
        with transaction(sessions) as session:
            session.execute(text("SELECT 1 FROM spans LIMIT 1"))
        return Response("ready\n", content_type="text/plain")

    @app.errorhandler(Unreadable)
    def unreadable(error: Unreadable) -> Response:
        log.warning("spans rejected", extra={"reason": str(error)})
        return _refusal(HTTPStatus.BAD_REQUEST, str(error))

    @app.errorhandler(DBAPIError)
    @app.errorhandler(psycopg2.Error)
    @app.errorhandler(PoolTimeout)
    def database_down(error: Exception) -> Response:
        # The status is 503, after which the sender retries.
        log.error("span store database failed", extra={"exception": type(error).__name__})
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the database is unavailable")


def _refusal(status: HTTPStatus, reason: str) -> Response:
    return Response(f"{reason}\n", status, content_type="text/plain")
