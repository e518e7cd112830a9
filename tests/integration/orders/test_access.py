"""Who may use the API: keys and their scopes, how often, and what every answer tells a browser."""

import re
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select

from eventbus.database.db import Sessions, transaction
from order_app.storage import api_keys
from order_app.storage.api_keys import Scope
from order_app.storage.models import ApiKeyRow
from testkit.eventually import eventually
from testkit.processes.api_client import key_of, with_key
from testkit.processes.order_requests import UNKNOWN_ORDER, another_api, close, place, problem


@pytest.fixture
def stranger(order_api: FlaskClient) -> FlaskClient:
    """A client without a key."""
    return order_api.application.test_client()


def a_client(api: FlaskClient, sessions: Sessions, *scopes: Scope) -> FlaskClient:
    with transaction(sessions) as session:
        key = api_keys.create(session, "another", scopes)
    return with_key(api.application, key)


# ---- keys


def test_a_request_without_a_key_is_rejected(stranger: FlaskClient) -> None:
    for response in (
        stranger.get("/orders"),
        stranger.get(UNKNOWN_ORDER),
        stranger.get(f"{UNKNOWN_ORDER}/timeline"),
        stranger.post(f"{UNKNOWN_ORDER}/cancel"),
        place(stranger),
        place(stranger, {"not": "an order"}),
    ):
        problem(response, 401)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="orders"'


@pytest.mark.parametrize("change", [lambda k: k[:-1], lambda k: k + "0", lambda k: k.upper()])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Basic {}", "{}", "Bearer"])
def test_a_malformed_key_is_rejected(order_api: FlaskClient, form: str, change: object) -> None:
    # given a key of which one character is wrong
    wrong = change(key_of(order_api))  # type: ignore[operator]

    # when
    response = order_api.get("/orders", headers={"Authorization": form.format(wrong)})

    # then
    problem(response, 401)
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert wrong not in response.text


def test_a_wrong_secret_with_a_known_prefix_is_rejected(order_api: FlaskClient) -> None:
    # given
    known = key_of(order_api)
    last = "0" if known[-1] != "0" else "1"

    # then
    bearer = {"Authorization": f"Bearer {known[:-1]}{last}"}
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
    # given
    reader = a_client(order_api, sessions, Scope.READ)
    writer = a_client(order_api, sessions, Scope.WRITE)

    # then
    assert reader.get("/orders").status_code == 200
    assert place(writer).status_code == 201
    for refused, scope in (
        (place(reader), "orders:write"),
        (reader.post(f"{UNKNOWN_ORDER}/cancel"), "orders:write"),
        (writer.get("/orders"), "orders:read"),
        (writer.get(UNKNOWN_ORDER), "orders:read"),
    ):
        assert scope in problem(refused, 403)["detail"]
        assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]


def test_a_new_key_works_within_seconds(order_api: FlaskClient, sessions: Sessions) -> None:
    # given an API that has just read the keys, and keeps them for long
    api = another_api(order_api, api_key_lifetime=300)
    api.get("/orders")

    # when
    with transaction(sessions) as session:
        key = api_keys.create(session, "new", [Scope.READ])

    # then
    def works() -> None:
        bearer = {"Authorization": f"Bearer {key}"}
        assert api.get("/orders", headers=bearer).status_code == 200

    eventually(works)
    close(api)


def test_a_revoked_key_is_rejected_within_the_cache_lifetime(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given
    api = another_api(order_api, api_key_lifetime=0.5)
    assert api.get("/orders").status_code == 200

    # when
    with transaction(sessions) as session:
        api_keys.revoke(session, key_of(api)[3:11])

    # then
    def refused() -> None:
        problem(api.get("/orders"), 401)

    eventually(refused)
    close(api)


def test_a_cached_key_needs_no_database_query(order_api: FlaskClient, sessions: Sessions) -> None:
    # given an API that knows the key
    order_api.get("/orders")
    asked: list[str] = []
    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))

    # when
    for _ in range(5):
        assert order_api.get("/orders").status_code == 200

    # then
    assert asked
    assert not any("api_keys" in statement for statement in asked)


def test_the_day_of_the_last_use_is_stored(order_api: FlaskClient, sessions: Sessions) -> None:
    # when
    order_api.get("/orders")

    # then
    with transaction(sessions) as session:
        assert api_keys.all_keys(session)[0].last_used_on == datetime.now(UTC).date()


def test_an_idempotency_key_is_scoped_to_the_api_key(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given an order of one of two clients
    other = a_client(order_api, sessions, Scope.WRITE)
    first = place(order_api, Idempotency_Key="k1")

    # when another client uses the same idempotency key, for the same and for another order
    second = place(other, Idempotency_Key="k1")
    repeated = place(other, Idempotency_Key="k1")

    # then it has its own order
    assert second.status_code == 201
    assert "Idempotency-Replayed" not in second.headers
    assert second.get_json()["id"] != first.get_json()["id"]
    assert repeated.get_json()["id"] == second.get_json()["id"]
    assert place(order_api, Idempotency_Key="k1").get_json()["id"] == first.get_json()["id"]


# ---- rate


def test_a_key_above_the_rate_limit_gets_retry_after(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given an API that takes three requests in a minute, and two clients
    api = another_api(order_api, api_rate_limit=3)
    other = a_client(api, sessions, Scope.READ)

    # when
    answers = [api.get("/orders") for _ in range(6)]

    # then: the minute may have ended once in between
    assert {answer.status_code for answer in answers} == {200, 429}
    late = next(answer for answer in answers if answer.status_code == 429)
    problem(late, 429)
    assert 1 <= int(late.headers["Retry-After"]) <= 60

    # and nobody else must wait
    assert other.get("/orders").status_code == 200
    assert api.get("/healthz").status_code == 200
    close(api)


# ---- operation


def test_probes_and_the_description_need_no_key(stranger: FlaskClient) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
        assert stranger.get(path).status_code == 200


def test_metrics_need_a_key_except_on_the_loopback_address(
    order_api: FlaskClient, stranger: FlaskClient, sessions: Sessions
) -> None:
    # given
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}
    by_socket = {"environ_overrides": {"REMOTE_ADDR": ""}}
    reader = a_client(order_api, sessions, Scope.READ)

    # then
    assert stranger.get("/metrics").status_code == 200
    problem(stranger.get("/metrics", **elsewhere), 401)
    problem(stranger.get("/metrics", **by_socket), 401)
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        problem(stranger.get("/metrics", headers={header: "192.0.2.7"}), 401)
    problem(reader.get("/metrics", **elsewhere), 403)
    assert order_api.get("/metrics", **elsewhere).status_code == 200


def test_every_answer_has_the_security_headers(
    order_api: FlaskClient, stranger: FlaskClient
) -> None:
    for response in (
        order_api.get("/orders"),
        place(order_api),
        order_api.get(UNKNOWN_ORDER),
        stranger.get("/orders"),
        stranger.get("/nothing"),
        stranger.get("/healthz"),
    ):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["Content-Security-Policy"] == policy


def test_the_content_security_policy_allows_the_pages_own_script(stranger: FlaskClient) -> None:
    # when
    first, second = stranger.get("/docs"), stranger.get("/docs")

    # then: the one inline script has the nonce, which is another one each time
    policy = first.headers["Content-Security-Policy"]
    (nonce,) = re.findall("'nonce-([^']+)'", policy)
    assert re.findall("<script(?! src)[^>]*>", first.text) == [f'<script nonce="{nonce}">']
    assert nonce not in second.text
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_the_description_declares_scopes_and_rejections(order_api: FlaskClient) -> None:
    # given
    document = order_api.get("/openapi.json").get_json()
    paths = document["paths"]

    # then
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert paths["/orders"]["post"]["security"] == [{"key": ["orders:write"]}]
    assert paths["/orders"]["get"]["security"] == [{"key": ["orders:read"]}]
    assert "security" not in paths["/healthz"]["get"]
    refusals = paths["/orders"]["get"]["responses"]
    assert {"401", "403", "429"} <= set(refusals)
    assert "Retry-After" in refusals["429"]["headers"]
