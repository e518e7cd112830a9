"""Access control: each request needs a key with the endpoint's scope, within a rate limit.

The OpenAPI document is generated from the same table of scopes, `REQUIRED_SCOPES`.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from flask import Flask, Response, current_app, g, request
from sqlalchemy.exc import SQLAlchemyError

from eventbus.database import db as database
from eventbus.database import outages
from order_app.http.key_cache import KeyCache
from order_app.http.problems import problem
from order_app.http.rate_limit import RateLimit
from order_app.settings import ApiSettings
from order_app.storage import api_keys
from order_app.storage.api_keys import ApiKey, Scope
from order_app.storage.models import db

log = logging.getLogger(__name__)

#: The scope that each endpoint requires.
REQUIRED_SCOPES = MappingProxyType(
    {
        "orders.place_order": Scope.WRITE,
        "orders.cancel_order": Scope.WRITE,
        "orders.ship_order": Scope.WRITE,
        "orders.cancel_order_as_operator": Scope.OPERATE,
        "orders.ship_order_as_operator": Scope.OPERATE,
        "orders.list_orders": Scope.READ,
        "orders.get_order": Scope.READ,
        "orders.get_timeline": Scope.READ,
        "probes.metrics": Scope.OPS,
    }
)

#: Endpoints that require no key, because load balancers do not have one and the API description is
#: public.
OPEN = frozenset(
    {
        "probes.healthz",
        "probes.readyz",
        "openapi.document",
        "openapi.docs",
        "openapi.static",
    }
)

#: Endpoints that require no key from a client on the same machine, where Prometheus may run next to
#: the API.
OPEN_ON_LOOPBACK = frozenset({"probes.metrics"})

#: Headers that show that a proxy has forwarded a request from another machine.
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")

_EXTENSION = "order_access"


def install(app: Flask, settings: ApiSettings) -> None:
    """Check each request before its route. Must be called after all routes are registered."""
    unknown = set(app.view_functions) - set(REQUIRED_SCOPES) - OPEN
    if unknown:
        raise RuntimeError(f"order_app/http/access.py declares no scope for {sorted(unknown)}")
    app.extensions[_EXTENSION] = (
        KeyCache(
            partial(_read, app),
            lifetime=settings.api_key_lifetime,
            limit=database.response_limit(settings),
        ),
        RateLimit(settings.api_rate_limit),
    )
    app.before_request(_check)


def client() -> ApiKey:
    """Return the API key of the current request."""
    key: ApiKey = g.api_key
    return key


def admits(app: Flask, environ: Mapping[str, Any]) -> bool:
    """Return whether a request has a valid key; otherwise its body is not needed."""
    key_cache, _ = app.extensions[_EXTENSION]
    return key_cache.find(_key_in(environ.get("HTTP_AUTHORIZATION", ""))) is not None


def _check() -> Response | None:
    # If there is no endpoint, the response is 404 or 405, which does not reveal data.
    endpoint = request.endpoint
    if endpoint is None or endpoint in OPEN:
        return None
    if endpoint in OPEN_ON_LOOPBACK and _is_local():
        return None
    return _admit(REQUIRED_SCOPES[endpoint])


def _admit(scope: Scope) -> Response | None:
    key_cache, rate_limit = current_app.extensions[_EXTENSION]
    key = key_cache.find(_bearer())
    if key is None:
        return _unauthorized()
    g.api_key = key
    wait = rate_limit.count(key.prefix)
    if wait is not None:
        return problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "This key has made too many requests; try again later.",
            headers={"Retry-After": str(wait)},
        )
    if scope not in key.scopes:
        return _forbidden(scope)
    _record_use(key_cache, key)
    return None


def _bearer() -> str:
    return _key_in(request.headers.get("Authorization", ""))


def _key_in(authorization: str) -> str:
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def _is_local() -> bool:
    # A local proxy may have forwarded the request from another machine. A Unix socket has no
    # address.
    if any(header in request.headers for header in _PROXY_HEADERS) or not request.remote_addr:
        return False
    return ip_address(request.remote_addr).is_loopback


def _unauthorized() -> Response:
    has_credentials = "Authorization" in request.headers
    error = ', error="invalid_token"' if has_credentials else ""
    return problem(
        HTTPStatus.UNAUTHORIZED,
        "The API key is not valid." if has_credentials else "An API key is required.",
        headers={"WWW-Authenticate": f'Bearer realm="orders"{error}'},
    )


def _forbidden(scope: Scope) -> Response:
    challenge = f'Bearer realm="orders", error="insufficient_scope", scope="{scope}"'
    return problem(
        HTTPStatus.FORBIDDEN,
        f"This key lacks the scope {scope}.",
        headers={"WWW-Authenticate": challenge},
    )


def _record_use(key_cache: KeyCache, key: ApiKey) -> None:
    today = datetime.now(UTC).date()
    if key.last_used_on == today:
        return
    # The cache is updated before the use is written, so that concurrent requests do not write it
    # again.
    key_cache.used(key, today)
    try:
        with db.session.begin():
            api_keys.note_use(db.session(), key.prefix, today)
    except SQLAlchemyError as error:
        # With a read-only database, requests are still served. The next read of the keys discards
        # the cached use, so the write is retried.
        log.warning("key use not recorded", extra={"reason": outages.reason(error)})


def _read(app: Flask) -> list[ApiKey]:
    # The edge has no app context, and needs none if the key is cached.
    with app.app_context(), db.session.begin():
        return api_keys.all_keys(db.session())
