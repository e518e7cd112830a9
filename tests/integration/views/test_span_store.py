"""The span store: accepted and rejected requests, retention, and `orderctl trace`."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from sqlalchemy import text

from common.kombu_topology import SPAN_STORE
from console.orderctl import main
from console.settings import DatabaseSettings, load_operator
from eventbus.database import db, migrations
from eventbus.database.db import Sessions, transaction
from span_store import otlp, store
from span_store.app import PROTOBUF, create_app
from span_store.settings import SpanStoreSettings
from testkit.servers.databases import TestDatabase, service_url

TRACE = bytes(range(16))
ORDER = "9f0c8a52-6f0b-4d7e-9a43-2b7f5f0f1c6d"

#: Nanoseconds since 1970.
START = 1_795_000_000_000_000_000


@pytest.fixture
def database(database_of: Callable[[str], TestDatabase]) -> TestDatabase:
    return database_of("trace")


@pytest.fixture
def sessions(database: TestDatabase) -> Iterator[Sessions]:
    engine = db.engine(database.service_settings)
    yield db.sessions(engine)
    engine.dispose()


@pytest.fixture
def receiver(database: TestDatabase) -> FlaskClient:
    return create_app(SpanStoreSettings(**database.settings)).test_client()


def span(number: int, parent: int = 0, **fields: Any) -> Span:
    new = Span(
        trace_id=TRACE,
        span_id=number.to_bytes(8),
        parent_span_id=parent.to_bytes(8) if parent else b"",
        name=f"step {number}",
        kind=Span.SPAN_KIND_CONSUMER,
        start_time_unix_nano=START + number * 1_000_000,
        end_time_unix_nano=START + number * 1_000_000 + 2_500_000,
        **fields,
    )
    new.attributes.add(key="order.id").value.string_value = ORDER
    return new


def body(*spans: Span, service: str = "order-api") -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    resource.scope_spans.add().spans.extend(spans)
    return request.SerializeToString()


def send(receiver: FlaskClient, data: bytes, encoding: str | None = None) -> int:
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = receiver.post("/v1/traces", data=data, content_type=PROTOBUF, headers=headers)
    return answer.status_code


def kept(sessions: Sessions) -> list[Any]:
    with transaction(sessions) as session:
        return store.find(session, ORDER)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_span_is_stored_with_all_its_fields(
    receiver: FlaskClient, sessions: Sessions, compressed: bool
) -> None:
    # Given a failed span with attributes of several types
    failed = span(2, parent=1, status=Status(code=Status.STATUS_CODE_ERROR, message="no\x00shelf"))
    failed.attributes.add(key="attempt").value.int_value = 3
    failed.attributes.add(key="ratio").value.double_value = float("nan")
    data = body(failed)

    # When it is sent
    status = send(receiver, gzip.compress(data), "gzip") if compressed else send(receiver, data)

    # Then every field is stored
    assert status == 200
    (row,) = kept(sessions)
    assert (row.trace_id, row.span_id, row.parent_id) == (TRACE.hex(), f"{2:016x}", f"{1:016x}")
    assert (row.service, row.name, row.kind) == ("order-api", "step 2", "consumer")
    assert (row.status, row.reason, row.microseconds) == ("error", "noshelf", 2500)
    assert row.attributes == {"order.id": ORDER, "attempt": 3, "ratio": "nan"}
    assert int(row.started_at.timestamp() * 1000) == (START // 1_000_000) + 2


def test_a_duplicate_span_is_stored_once(receiver: FlaskClient, sessions: Sessions) -> None:
    assert [send(receiver, body(span(1), span(1))) for _ in range(2)] == [200, 200]

    assert len(kept(sessions)) == 1


def test_an_order_is_found_in_a_trace_of_many_orders(
    receiver: FlaskClient, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a client that places all its orders in one trace
    monkeypatch.setattr(store, "SPANS", 10)
    many = [span(number) for number in range(1, 31)]
    for other in many[:-1]:
        other.attributes[0].value.string_value = str(uuid4())
    assert send(receiver, body(*many)) == 200

    # When one of the orders is searched for
    found = kept(sessions)

    # Then its own span is found, with a limited number of others
    assert len(found) == 10
    assert [row.name for row in found if row.order_id == ORDER] == ["step 30"]
    assert found == sorted(found, key=lambda row: row.started_at)


def test_a_span_with_hostile_text_is_stored_unchanged(
    receiver: FlaskClient, sessions: Sessions
) -> None:
    # Given a span whose texts are hostile to every format on their way
    hostile = 'tab\t line\n return\r null \\N end \\. quote " back\\slash \u20ac \U0001f600'
    odd = span(1, status=Status(code=Status.STATUS_CODE_ERROR, message=hostile))
    odd.attributes.add(key=hostile).value.string_value = hostile

    # When it is sent alone, and next to a stored span
    assert [send(receiver, body(odd)), send(receiver, body(odd, span(2)))] == [
        200,
        200,
    ]

    # Then its texts are unchanged
    first, second = kept(sessions)
    assert (first.reason, first.attributes[hostile]) == (hostile, hostile)
    assert second.name == "step 2"


def test_values_of_a_later_version_of_otlp_count_as_the_default(
    receiver: FlaskClient, sessions: Sessions
) -> None:
    # Given a span whose kind and status are unknown
    later = span(1)
    later.kind = 77  # type: ignore[assignment]
    later.status.code = 77  # type: ignore[assignment]

    # When it is sent with another one
    assert send(receiver, body(later, span(2))) == 200

    # Then both are stored
    first, second = kept(sessions)
    assert (first.kind, first.status) == ("unspecified", "unset")
    assert second.kind == "consumer"


def test_a_long_order_id_does_not_prevent_storage(
    receiver: FlaskClient, sessions: Sessions
) -> None:
    # Given a span whose order id is longer than PostgreSQL can index, and does not compress
    long = span(1)
    long.attributes[0].value.string_value = random.Random(1).randbytes(10_000).hex()

    # Then it is stored
    assert send(receiver, body(long, span(2))) == 200
    assert len(kept(sessions)) == 2


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\xff\xff", None),
        (b"no gzip", "gzip"),
        (gzip.compress(b"cut off" * 100, mtime=0)[:-20], "gzip"),
        (gzip.compress(bytes(otlp.SIZE_LIMIT + 1)), "gzip"),
        (body(Span(trace_id=b"short", span_id=bytes(8))), None),
    ],
)
def test_a_request_that_is_not_otlp_is_rejected(
    receiver: FlaskClient, sessions: Sessions, data: bytes, encoding: str | None
) -> None:
    assert send(receiver, data, encoding) == 400
    assert kept(sessions) == []


def test_a_request_above_the_size_limit_is_rejected(receiver: FlaskClient) -> None:
    assert send(receiver, bytes(otlp.SIZE_LIMIT + 1)) == 413


def test_another_media_type_is_rejected(receiver: FlaskClient) -> None:
    assert receiver.post("/v1/traces", json={}).status_code == 415


def test_an_unavailable_database_answers_503(database: TestDatabase) -> None:
    # Given a store without a database
    settings = database.settings | {"database_port": 9}
    receiver = create_app(SpanStoreSettings(**settings)).test_client()

    # Then it rejects spans for now and is not ready
    assert send(receiver, body(span(1))) == 503
    assert receiver.get("/readyz").status_code == 503


def test_old_spans_are_deleted_when_new_spans_arrive(
    database: TestDatabase, sessions: Sessions
) -> None:
    # Given two spans, of which one arrived two minutes ago
    settings = SpanStoreSettings(**database.settings, span_retention=60)
    send(create_app(settings).test_client(), body(span(1), span(2)))
    with transaction(sessions) as session:
        old = "UPDATE spans SET received_at = now() - interval '2 minutes' WHERE name = 'step 1'"
        session.execute(text(old))

    # When another span arrives
    send(create_app(settings).test_client(), body(span(3)))

    # Then the old span is deleted
    assert [row.name for row in kept(sessions)] == ["step 2", "step 3"]


def test_the_migrations_match_the_models(database: TestDatabase) -> None:
    assert migrations.check(SPAN_STORE, database.url) == []


@pytest.fixture
def operated(migrated_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of an operator, with a trace of three spans in the span store."""
    for name, value in migrated_env.items():
        monkeypatch.setenv(name, value)
    operator = load_operator(DatabaseSettings)
    store = TestDatabase(service_url(operator, "trace"), operator.database_ca_file)
    receiver = create_app(SpanStoreSettings(**store.settings)).test_client()
    failed = span(3, parent=9, status=Status(code=Status.STATUS_CODE_ERROR, message="[no] shelf"))
    assert send(receiver, body(span(1), span(2, parent=1), failed)) == 200
    return migrated_env


def orderctl(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("wanted", [ORDER, ORDER.upper(), TRACE.hex()])
def test_a_trace_is_shown_as_a_tree(operated: dict[str, str], wanted: str) -> None:
    result = orderctl("trace", "show", wanted)

    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["trace", TRACE.hex()],
        ["span", "service", "start", "ms", "ms", "outcome"],
        ["step", "1", "order-api", "0.0", "2.5"],
        ["step", "2", "order-api", "1.0", "2.5"],
        ["…", "step", "3", "order-api", "2.0", "2.5", "[no]", "shelf"],
    ]
    assert "\n  step 2" in result.stdout


def test_a_trace_is_one_json_document(operated: dict[str, str]) -> None:
    (trace,) = json.loads(orderctl("trace", "show", ORDER, "--json").stdout)

    assert trace["trace_id"] == TRACE.hex()
    assert [(s["name"], s["start_ms"], s["status"]) for s in trace["spans"]] == [
        ("step 1", 0.0, "unset"),
        ("step 2", 1.0, "unset"),
        ("step 3", 2.0, "error"),
    ]


def test_an_order_without_spans_is_reported_in_one_line(operated: dict[str, str]) -> None:
    result = orderctl("trace", "show", str(uuid4()))

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: order or trace")
    assert "has no spans" in result.stderr
