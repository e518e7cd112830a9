"""The OpenAPI document, and a page that shows it without loading anything from other servers."""

import secrets
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, make_response, render_template
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from order_app.http import access
from order_app.http.problems import responses

INFO = Info(
    title="Orders API",
    version="1",
    description=(
        "Place, read, ship and cancel orders. Every error is a problem document (RFC 9457) that "
        "names the field. A header that is repeated with different values is rejected with 400, "
        "and a body must arrive within some seconds. A client that receives no response, or 503, "
        "repeats its request with the same `Idempotency-Key`. A request may have a W3C "
        "`traceparent` header; its trace then includes every event that the request causes."
    ),
)

#: The form in which a client sends its API key.
SECURITY_SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key from `orderctl keys create`. Each path lists its scope.",
    }
}

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before the next request.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_CHALLENGE = {
    "WWW-Authenticate": {
        "description": "The missing credentials or scope.",
        "schema": {"type": "string"},
    }
}


def install(app: OpenAPI, *, currencies: tuple[str, ...]) -> None:
    """Serve `/openapi.json` and `/docs`. Must be called after all routes are registered."""
    description = app.api_doc
    for operation in (o for path in description["paths"].values() for o in path.values()):
        operation["description"] = operation.get("description", "").replace("<br/>", " ").strip()
    _declare_access(description)
    currency = description["components"]["schemas"]["NewOrder"]["properties"]["currency"]
    currency["enum"] = currencies
    pages = Blueprint(
        "openapi", __name__, static_folder=_swagger_ui(), static_url_path="/docs/assets"
    )

    @pages.get("/openapi.json")
    def document() -> Response:
        return _revalidated(jsonify(description))

    @pages.get("/docs")
    def docs() -> Response:
        nonce = secrets.token_urlsafe(16)
        page = make_response(render_template("docs.html", title=INFO.title, nonce=nonce))
        page.headers["Content-Security-Policy"] = _page_policy(nonce)
        return _revalidated(page)

    app.register_blueprint(pages)


def _declare_access(description: dict[str, Any]) -> None:
    scopes = {
        endpoint.rpartition(".")[2]: scope for endpoint, scope in access.REQUIRED_SCOPES.items()
    }
    for operation in (o for path in description["paths"].values() for o in path.values()):
        if scope := scopes.get(operation["operationId"]):
            operation["security"] = [{"key": [scope]}]
            operation["responses"] |= _access_responses()


def _access_responses() -> dict[str, Any]:
    headers_of = {
        HTTPStatus.UNAUTHORIZED: _CHALLENGE,
        HTTPStatus.FORBIDDEN: _CHALLENGE,
        HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    }
    problems: dict[Any, Any] = {**responses({}, *headers_of)}
    return {
        str(int(status)): problems[status] | {"headers": headers}
        for status, headers in headers_of.items()
    }


def _page_policy(nonce: str) -> str:
    # Swagger UI sets inline styles, and its style sheet contains its icons.
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _revalidated(response: Response) -> Response:
    # Browsers may cache the document, but must revalidate it each time.
    response.headers["Cache-Control"] = "no-cache"
    return response


def _swagger_ui() -> Path:
    # Only the files of Swagger UI are served, because the package's own page would contact an
    # external validator.
    spec = find_spec("flask_openapi3_swagger")
    if spec is None or spec.origin is None:
        raise RuntimeError("flask-openapi3-swagger is not installed")
    return Path(spec.origin).parent / "templates" / "swagger"
