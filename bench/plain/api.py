"""A conventional API: Flask, pydantic, and Flask-SQLAlchemy's unit of work.

It writes the same rows as the orders API, but does not check API keys, which are not compared.
"""

import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from flask import Flask, Response, request
from flask_sqlalchemy import SQLAlchemy
from uuid_utils.compat import uuid7

from eventbus import tls
from eventbus.events import codec
from eventbus.outbox.table import outbox
from order_app import domain
from order_app.events import Cause, created
from order_app.http.requests import NewOrder
from order_app.http.responses import OrderResponse
from order_app.storage.models import LineRow, OrderRow, db


def create_app() -> Flask:
    """Return the API."""
    app = Flask(__name__)
    env = os.environ
    app.config["SQLALCHEMY_DATABASE_URI"] = (
        f"postgresql+psycopg2://{env['DATABASE_USER']}:{env['DATABASE_PASSWORD']}"
        f"@127.0.0.1:{env['DATABASE_PORT']}/{env['DATABASE_NAME']}"
    )
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": 8,
        "connect_args": tls.database_options(env["DATABASE_CA_FILE"]),  # type: ignore[arg-type]
    }
    db.init_app(app)
    app.post("/orders")(_place)
    return app


def _place() -> Response:
    placement = NewOrder.model_validate_json(request.get_data()).placement()
    draft = domain.Draft(
        id=uuid7(),
        customer_email=placement.customer_email,
        currency=placement.currency,
        lines=placement.lines,
    )
    now = datetime.now(UTC)
    order = domain.place(draft, created_at=now, deadline_at=now + timedelta(minutes=5))
    _store(db, order)
    body = OrderResponse.of(order).model_dump_json()
    return Response(body, 201, content_type="application/json")


def _store(db: SQLAlchemy, order: domain.Order) -> None:
    row = OrderRow(
        id=order.id,
        customer_email=order.customer_email,
        currency=order.currency,
        status=order.status,
        total=order.total,
        created_at=order.created_at,
        deadline_at=order.deadline_at,
        sequence=1,
        lines=[LineRow(position=i, **asdict(line)) for i, line in enumerate(order.lines, 1)],
    )
    event = created(order, time=order.created_at, cause=Cause())
    db.session.add(row)
    db.session.execute(
        outbox.insert().values(
            event_id=event.id,
            type=event.type,
            subject=event.subject,
            event=codec.encode(event).decode(),
        )
    )
    db.session.commit()
