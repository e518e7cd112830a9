"""For those who run the API: is it alive, can it serve, what does it count."""

from http import HTTPStatus
from typing import Literal

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from common.backlog import RelayPass, Unsent, relay_pass, unsent
from order_app.metrics import Metrics
from order_app.models import db

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
    """What the relay last did, and what it has left to do."""

    status: Literal["running", "silent"]
    last_pass_seconds: float | None = Field(description="Since its last look at the outbox.")
    unsent: int
    oldest_unsent_seconds: float
    unroutable: int


class Ready(BaseModel):
    """The API can serve: its database answers. Relay and broker are told, and do not matter."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    relay: RelayView
    broker: str = Field(
        description="As the relay last saw it: `reachable`, `unreachable` or `unknown`."
    )


class Unready(BaseModel):
    """The API cannot serve."""

    status: Literal["unready"] = "unready"
    database: Literal["unreachable"] = "unreachable"


_METRICS_PAGE = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@probes.get("/healthz", responses={200: Alive})
def healthz() -> Response:
    """Tell that the process is alive; touches nothing else."""
    return _json(Alive())


@probes.get("/readyz", responses={200: Ready, 503: Unready})
def readyz() -> Response:
    """Tell whether the API can serve.

    It can while its database answers: orders are accepted while the broker or the relay is down.
    """
    try:
        with db.session.begin():
            last, waiting = relay_pass(db.session()), unsent(db.session())
    except SQLAlchemyError:
        return _json(Unready(), HTTPStatus.SERVICE_UNAVAILABLE)
    return _json(Ready(relay=_relay(last, waiting), broker=_broker(last)))


@probes.get("/metrics", responses={200: _METRICS_PAGE})
def metrics() -> Response:
    """Show the metrics to Prometheus."""
    counted: Metrics = current_app.extensions["order_metrics"]
    return Response(counted.page(), content_type=CONTENT_TYPE_LATEST)


def _relay(last: RelayPass | None, waiting: Unsent) -> RelayView:
    return RelayView(
        status="running" if _speaks(last) else "silent",
        last_pass_seconds=last and last.seconds_ago,
        unsent=waiting.unsent,
        oldest_unsent_seconds=waiting.oldest_unsent_seconds,
        unroutable=waiting.unroutable,
    )


def _broker(last: RelayPass | None) -> str:
    if last is None or not _speaks(last):
        return "unknown"
    return "unreachable" if last.broker_error else "reachable"


def _speaks(last: RelayPass | None) -> bool:
    return last is not None and last.seconds_ago < SILENT_AFTER


def _json(view: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(view.model_dump_json(), status, content_type="application/json")
