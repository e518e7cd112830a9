"""For those who run the API: is it alive, can it serve, what does it count."""

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

#: Seconds without a pass after which the relay counts as silent; it passes about every second.
SILENT_AFTER = 15

probes = APIBlueprint(
    "probes",
    __name__,
    abp_tags=[Tag(name="operation", description="For those who run the service.")],
    operation_id_callback=lambda *, name, **_: name,
)


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class RelayView(BaseModel):
    """What the relay last did."""

    status: Literal["running", "silent"]
    last_pass_seconds: float | None = Field(description="Since its last look at the outbox.")


class Ready(BaseModel):
    """The API can serve: its database takes writes. Relay and broker are shown only."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    relay: RelayView
    broker: str = Field(
        description="As the relay last saw it: `reachable`, `unreachable` or `unknown`."
    )


class Unready(BaseModel):
    """The API cannot serve."""

    status: Literal["unready"] = "unready"
    database: Literal["unreachable", "read-only"] = "unreachable"


_METRICS_PAGE = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@probes.get("/healthz", responses={200: Alive})
def healthz() -> Response:
    """Tell that the process is alive; touches nothing else."""
    return _json(Alive())


@probes.get("/readyz", responses={200: Ready, 503: Unready})
def readyz() -> Response:
    """Tell whether the API can serve.

    It can while its database takes writes: orders are accepted while the broker or the relay is
    down. It costs the same whatever waits, and however long.
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
    """Show the metrics to Prometheus."""
    counted: Metrics = current_app.extensions["order_metrics"]
    return Response(counted.page(), content_type=CONTENT_TYPE_LATEST)


def _relay(last: RelayPass | None) -> RelayView:
    return RelayView(
        status="running" if _speaks(last) else "silent",
        last_pass_seconds=last and last.seconds_ago,
    )


def _broker(last: RelayPass | None) -> str:
    if last is None or not _speaks(last):
        return "unknown"
    return "unreachable" if last.broker_error else "reachable"


def _speaks(last: RelayPass | None) -> bool:
    return last is not None and last.seconds_ago < SILENT_AFTER


def _json(view: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(view.model_dump_json(), status, content_type="application/json")
