"""API keys and their scopes, the rate limit, and the headers of every answer."""

import re
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select

from eventbus.database.db import Sessions, engine_of, transaction
from order_app.storage import api_keys
from order_app.storage.api_keys import Scope
from order_app.storage.models import ApiKeyRow
from testkit.eventually import eventually
from testkit.processes.api_client import key_of, with_key
from testkit.processes.order_requests import UNKNOWN_ORDER, another_api, close, place, problem


@pytest.fixture
def keyless(order_api: FlaskClient) -> FlaskClient:
    """A client without a key."""
    return order_api.application.test_client()


def a_client(api: FlaskClient, sessions: Sessions, *scopes: Scope) -> FlaskClient:
    with transaction(sessions) as session:
        key = api_keys.create(session, "another", scopes)
    return with_key(api.application, key)


def test_a_request_without_a_key_is_rejected(keyless: FlaskClient) -> None:
    for response in (
        keyless.get("/orders"),
        keyless.get(UNKNOWN_ORDER),
        keyless.get(f"{UNKNOWN_ORDER}/timeline"),
        keyless.post(f"{UNKNOWN_ORDER}/cancel"),
        place(keyless),
        place(keyless, {"not": "an order"}),
    ):
        problem(response, 401)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="orders"'


@pytest.mark.parametrize("change", [lambda k: k[:-1], lambda k: k + "0", lambda k: k.upper()])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Basic {}", "{}", "Bearer"])
def test_a_malformed_key_is_rejected(order_api: FlaskClient, form: str, change: object) -> None:
    # Given a key with one wrong character
    wrong = change(key_of(order_api))  # type: ignore[operator]

    # When a request uses it
    response = order_api.get("/orders", headers={"Authorization": form.format(wrong)})

    # Then it is rejected and not repeated in the answer
    problem(response, 401)
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert wrong not in response.text


def test_a_wrong_secret_with_a_known_prefix_is_rejected(order_api: FlaskClient) -> None:
    # Given a key whose last character differs
    key = key_of(order_api)
    last = "0" if key[-1] != "0" else "1"

    # Then only the real key is accepted
    bearer = {"Authorization": f"Bearer {key[:-1]}{last}"}
    problem(order_api.get("/orders", headers=bearer), 401)
    assert order_api.get("/orders").status_code == 200


def test_a_key_is_stored_only_as_a_hash(order_api: FlaskClient, sessions: Sessions) -> None:
    with transaction(sessions) as session:
        row = session.scalars(select(ApiKeyRow)).one()

    key = key_of(order_api)
    secret = key.rpartition("_")[2]
    assert row.prefix in key
    assert secret not in f"{row.prefix} {row.name} {row.hash} {row.scopes}"


def test_a_key_allows_only_its_scopes(order_api: FlaskClient, sessions: Sessions) -> None:
    # Given a key that reads and a key that writes
    reader = a_client(order_api, sessions, Scope.READ)
    writer = a_client(order_api, sessions, Scope.WRITE)

    # Then each key is limited to its scope
    assert reader.get("/orders").status_code == 200
    assert place(writer).status_code == 201
    for rejected, scope in (
        (place(reader), "orders:write"),
        (reader.post(f"{UNKNOWN_ORDER}/cancel"), "orders:write"),
        (writer.get("/orders"), "orders:read"),
        (writer.get(UNKNOWN_ORDER), "orders:read"),
    ):
        assert scope in problem(rejected, 403)["detail"]
        assert f'scope="{scope}"' in rejected.headers["WWW-Authenticate"]


def test_a_new_key_works_within_seconds(order_api: FlaskClient, sessions: Sessions) -> None:
    # Given an API that has just read the keys and caches them for long
    api = another_api(order_api, api_key_lifetime=300)
    api.get("/orders")

    # When a key is created
    with transaction(sessions) as session:
        key = api_keys.create(session, "new", [Scope.READ])

    # Then it works before the cache expires
    def works() -> None:
        bearer = {"Authorization": f"Bearer {key}"}
        assert api.get("/orders", headers=bearer).status_code == 200

    eventually(works)
    close(api)


def test_a_revoked_key_is_rejected_within_the_cache_lifetime(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an API that caches keys for half a second
    api = another_api(order_api, api_key_lifetime=0.5)
    assert api.get("/orders").status_code == 200

    # When its key is revoked
    with transaction(sessions) as session:
        api_keys.revoke(session, key_of(api)[3:11])

    # Then the key is rejected soon
    def rejected() -> None:
        problem(api.get("/orders"), 401)

    eventually(rejected)
    close(api)


def test_a_cached_key_needs_no_database_query(order_api: FlaskClient, sessions: Sessions) -> None:
    # Given an API that has cached the key
    order_api.get("/orders")
    statements: list[str] = []
    engine = engine_of(sessions)
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    # When requests use the key
    for _ in range(5):
        assert order_api.get("/orders").status_code == 200

    # Then no query reads the keys
    assert statements
    assert not any("api_keys" in statement for statement in statements)


def test_the_day_of_the_last_use_is_stored(order_api: FlaskClient, sessions: Sessions) -> None:
    # When a key is used
    order_api.get("/orders")

    # Then its last use is today
    with transaction(sessions) as session:
        assert api_keys.all_keys(session)[0].last_used_on == datetime.now(UTC).date()


def test_an_idempotency_key_is_scoped_to_the_api_key(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an order of one of two clients
    other = a_client(order_api, sessions, Scope.WRITE)
    first = place(order_api, Idempotency_Key="k1")

    # When another client uses the same idempotency key twice
    second = place(other, Idempotency_Key="k1")
    repeated = place(other, Idempotency_Key="k1")

    # Then it has its own order
    assert second.status_code == 201
    assert "Idempotency-Replayed" not in second.headers
    assert second.get_json()["id"] != first.get_json()["id"]
    assert repeated.get_json()["id"] == second.get_json()["id"]
    assert place(order_api, Idempotency_Key="k1").get_json()["id"] == first.get_json()["id"]


def test_a_key_above_the_rate_limit_gets_retry_after(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an API that accepts three requests a minute, and two clients
    api = another_api(order_api, api_rate_limit=3)
    other = a_client(api, sessions, Scope.READ)

    # When one client sends six requests
    answers = [api.get("/orders") for _ in range(6)]

    # Then one is rejected with Retry-After; a new minute may have started in between
    assert {answer.status_code for answer in answers} == {200, 429}
    rejected = next(answer for answer in answers if answer.status_code == 429)
    problem(rejected, 429)
    assert 1 <= int(rejected.headers["Retry-After"]) <= 60

    # And other clients and probes are not limited
    assert other.get("/orders").status_code == 200
    assert api.get("/healthz").status_code == 200
    close(api)


def test_probes_and_the_description_need_no_key(keyless: FlaskClient) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert keyless.get(path).status_code == 200


def test_metrics_need_a_key_except_on_the_loopback_address(
    order_api: FlaskClient, keyless: FlaskClient, sessions: Sessions
) -> None:
    # Given connections from another host and over a socket
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}
    by_socket = {"environ_overrides": {"REMOTE_ADDR": ""}}
    reader = a_client(order_api, sessions, Scope.READ)

    # Then only direct connections from the loopback address need no key
    assert keyless.get("/metrics").status_code == 200
    problem(keyless.get("/metrics", **elsewhere), 401)
    problem(keyless.get("/metrics", **by_socket), 401)
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        problem(keyless.get("/metrics", headers={header: "192.0.2.7"}), 401)
    problem(reader.get("/metrics", **elsewhere), 403)
    assert order_api.get("/metrics", **elsewhere).status_code == 200


def test_every_answer_has_the_security_headers(
    order_api: FlaskClient, keyless: FlaskClient
) -> None:
    for response in (
        order_api.get("/orders"),
        place(order_api),
        order_api.get(UNKNOWN_ORDER),
        keyless.get("/orders"),
        keyless.get("/nothing"),
        keyless.get("/healthz"),
    ):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["Content-Security-Policy"] == policy


def test_the_content_security_policy_allows_the_pages_own_script(keyless: FlaskClient) -> None:
    # When the page is loaded twice
    first, second = keyless.get("/docs"), keyless.get("/docs")

    # Then the inline script has the nonce, which differs each time
    policy = first.headers["Content-Security-Policy"]
    (nonce,) = re.findall("'nonce-([^']+)'", policy)
    assert re.findall("<script(?! src)[^>]*>", first.text) == [f'<script nonce="{nonce}">']
    assert nonce not in second.text
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_the_description_declares_scopes_and_rejections(order_api: FlaskClient) -> None:
    # Given the API description
    document = order_api.get("/openapi.json").get_json()
    paths = document["paths"]

    # Then it declares the scopes and the rejections
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert paths["/orders"]["post"]["security"] == [{"key": ["orders:write"]}]
    assert paths["/orders"]["get"]["security"] == [{"key": ["orders:read"]}]
    assert "security" not in paths["/healthz"]["get"]
    rejections = paths["/orders"]["get"]["responses"]
    assert {"401", "403", "429"} <= set(rejections)
    assert "Retry-After" in rejections["429"]["headers"]
