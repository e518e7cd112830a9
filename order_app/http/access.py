"""Who may do what: each request needs a key with the scope of what it asks for, and not too often.

The table `NEEDS` is also what the API's description says.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from flask import Flask, Response, current_app, g, request
from sqlalchemy.exc import SQLAlchemyError

from eventbus.database import outages
from order_app.http.key_cache import Keyring
from order_app.http.problems import problem
from order_app.http.rate_limit import RateLimit
from order_app.settings import ApiSettings
from order_app.storage import api_keys
from order_app.storage.api_keys import ApiKey, Scope
from order_app.storage.models import db

log = logging.getLogger(__name__)

#: The scope that each endpoint needs.
NEEDS = MappingProxyType(
    {
        "orders.place_order": Scope.WRITE,
        "orders.cancel_order": Scope.WRITE,
        "orders.ship_order": Scope.WRITE,
        "orders.list_orders": Scope.READ,
        "orders.get_order": Scope.READ,
        "orders.get_timeline": Scope.READ,
        "probes.metrics": Scope.OPS,
    }
)

#: What needs no key: a load balancer has none, and the contract is no secret.
OPEN = frozenset(
    {
        "probes.healthz",
        "probes.readyz",
        "description.openapi_json",
        "description.docs",
        "description.static",
    }
)

#: Endpoints that need no key on the machine itself, where a Prometheus may run beside the API.
OPEN_ON_LOOPBACK = frozenset({"probes.metrics"})

#: Headers by which a proxy shows that it passes on what another machine asks.
_OF_A_PROXY = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")

_EXTENSION = "order_access"


def install(app: Flask, settings: ApiSettings) -> None:
    """Check each request before its route sees it; call it when all routes are registered."""
    unknown = set(app.view_functions) - set(NEEDS) - OPEN
    if unknown:
        raise RuntimeError(f"order_app/http/access.py does not say who may use {sorted(unknown)}")
    app.extensions[_EXTENSION] = (
        Keyring(_read, lifetime=settings.api_key_lifetime),
        RateLimit(settings.api_rate_limit),
    )
    app.before_request(_check)


def client() -> ApiKey:
    """Return the key that this request came with."""
    key: ApiKey = g.api_key
    return key


def admits(app: Flask, environ: Mapping[str, Any]) -> bool:
    """Return whether a request comes with a valid key: without one its body is of no use."""
    with app.app_context():
        keyring, _ = app.extensions[_EXTENSION]
        return keyring.find(_key_in(environ.get("HTTP_AUTHORIZATION", ""))) is not None


def _check() -> Response | None:
    # Without an endpoint it is a 404 or 405, which tells nothing that needs a key.
    endpoint = request.endpoint
    if endpoint is None or endpoint in OPEN:
        return None
    if endpoint in OPEN_ON_LOOPBACK and _is_local():
        return None
    return _admit(NEEDS[endpoint])


def _admit(scope: Scope) -> Response | None:
    keyring, rate_limit = current_app.extensions[_EXTENSION]
    key = keyring.find(_bearer())
    if key is None:
        return _unauthorized()
    g.api_key = key
    wait = rate_limit.wait(key.prefix)
    if wait is not None:
        return problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "This key has made too many requests; try again later.",
            headers={"Retry-After": str(wait)},
        )
    if scope not in key.scopes:
        return _forbidden(scope)
    _note_use(keyring, key)
    return None


def _bearer() -> str:
    return _key_in(request.headers.get("Authorization", ""))


def _key_in(authorization: str) -> str:
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def _is_local() -> bool:
    # A proxy on this machine speaks for others; on a Unix socket there is no address at all.
    if any(header in request.headers for header in _OF_A_PROXY) or not request.remote_addr:
        return False
    return ip_address(request.remote_addr).is_loopback


def _unauthorized() -> Response:
    given = "Authorization" in request.headers
    error = ', error="invalid_token"' if given else ""
    return problem(
        HTTPStatus.UNAUTHORIZED,
        "The API key is not valid." if given else "An API key is needed.",
        headers={"WWW-Authenticate": f'Bearer realm="orders"{error}'},
    )


def _forbidden(scope: Scope) -> Response:
    challenge = f'Bearer realm="orders", error="insufficient_scope", scope="{scope}"'
    return problem(
        HTTPStatus.FORBIDDEN,
        f"This key has not the scope {scope}.",
        headers={"WWW-Authenticate": challenge},
    )


def _note_use(keyring: Keyring, key: ApiKey) -> None:
    today = datetime.now(UTC).date()
    if key.last_used_on == today:
        return
    # Before it is written: the requests that come meanwhile need not write it, too.
    keyring.used(key, today)
    try:
        with db.session.begin():
            api_keys.note_use(db.session(), key.prefix, today)
    except SQLAlchemyError as error:
        # A database that takes no writes still serves reads. The next read of the keys forgets that
        # the use was noted.
        log.warning("a key's use not noted", extra={"reason": outages.reason(error)})


def _read() -> list[ApiKey]:
    with db.session.begin():
        return api_keys.all_keys(db.session())
