"""Liveness and readiness probes of the API, and its Prometheus metrics."""

from http import HTTPStatus
from typing import Literal

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from eventbus.database.db import takes_writes
from eventbus.outbox.lag import RelayPass, relay_pass
from order_app.http.metrics import Metrics
from order_app.storage.models import db

#: Seconds without a pass after which the relay counts as silent; normally, a pass takes place every
#: second.
SILENT_AFTER = 15

probes = APIBlueprint(
    "probes",
    __name__,
    abp_tags=[Tag(name="operation", description="Monitoring of the service.")],
    operation_id_callback=lambda *, name, **_: name,
)


class Alive(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class RelayStatus(BaseModel):
    """The status of the relay, at its last pass over the outbox."""

    status: Literal["running", "silent"]
    last_pass_seconds: float | None = Field(description="Seconds since the relay's last pass.")


class Ready(BaseModel):
    """The API is ready: its database accepts writes. Relay and broker are informational."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    relay: RelayStatus
    broker: str = Field(
        description="`reachable`, `unreachable` or `unknown`, according to the relay's last pass."
    )


class Unready(BaseModel):
    """The API is not ready."""

    status: Literal["unready"] = "unready"
    database: Literal["unreachable", "read-only"] = "unreachable"


_METRICS_PAGE = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@probes.get("/healthz", responses={200: Alive})
def healthz() -> Response:
    """Check only that the process is alive."""
    return _json(Alive())


@probes.get("/readyz", responses={200: Ready, 503: Unready})
def readyz() -> Response:
    """Check that the API is ready.

    It is ready while its database accepts writes: orders are accepted while the broker or the relay
    is down. The cost does not depend on the number of waiting events.
    """
    try:
        with db.session.begin():
            if not takes_writes(db.session()):
                return _json(Unready(database="read-only"), HTTPStatus.SERVICE_UNAVAILABLE)
            last = relay_pass(db.session())
    except SQLAlchemyError:
        return _json(Unready(), HTTPStatus.SERVICE_UNAVAILABLE)
    return _json(Ready(relay=_relay(last), broker=_broker(last)))


@probes.get("/metrics", responses={200: _METRICS_PAGE})
def metrics() -> Response:
    """Return the metrics for Prometheus."""
    order_metrics: Metrics = current_app.extensions["order_metrics"]
    return Response(order_metrics.page(), content_type=CONTENT_TYPE_LATEST)


def _relay(last: RelayPass | None) -> RelayStatus:
    return RelayStatus(
        status="running" if _is_running(last) else "silent",
        last_pass_seconds=last and last.seconds_ago,
    )


def _broker(last: RelayPass | None) -> str:
    if last is None or not _is_running(last):
        return "unknown"
    return "unreachable" if last.broker_error else "reachable"


def _is_running(last: RelayPass | None) -> bool:
    return last is not None and last.seconds_ago < SILENT_AFTER


def _json(body: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(body.model_dump_json(), status, content_type="application/json")
