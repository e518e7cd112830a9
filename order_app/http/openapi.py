"""The API's description, and the page that shows it without any outside network."""

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
        "Place orders, watch them and cancel them. Every error is a problem document (RFC 9457) "
        "that names the field. A header that comes twice with different values is 400, and a body "
        "must arrive within some seconds. A client that got no answer repeats its request with "
        "the same `Idempotency-Key`. A request may carry a W3C `traceparent` header; its trace "
        "then includes every event that follows from it."
    ),
)

#: Where a client's key goes.
SECURITY_SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, from `orderctl keys create`. A path names the scopes it needs.",
    }
}

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds until the next request may come.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_CHALLENGE = {"WWW-Authenticate": {"description": "What is missing.", "schema": {"type": "string"}}}


def install(app: OpenAPI, *, currencies: tuple[str, ...]) -> None:
    """Serve `/openapi.json` and `/docs`; call it when all routes are registered."""
    document = app.api_doc
    for operation in (o for path in document["paths"].values() for o in path.values()):
        operation["description"] = operation.get("description", "").replace("<br/>", " ").strip()
    _declare_access(document)
    document["components"]["schemas"]["NewOrder"]["properties"]["currency"]["enum"] = currencies
    pages = Blueprint(
        "description", __name__, static_folder=_swagger_ui(), static_url_path="/docs/assets"
    )

    @pages.get("/openapi.json")
    def openapi_json() -> Response:
        return _kept(jsonify(document))

    @pages.get("/docs")
    def docs() -> Response:
        nonce = secrets.token_urlsafe(16)
        page = make_response(render_template("docs.html", title=INFO.title, nonce=nonce))
        page.headers["Content-Security-Policy"] = _page_policy(nonce)
        return _kept(page)

    app.register_blueprint(pages)


def _declare_access(document: dict[str, Any]) -> None:
    scopes = {endpoint.rpartition(".")[2]: scope for endpoint, scope in access.NEEDS.items()}
    for operation in (o for path in document["paths"].values() for o in path.values()):
        if scope := scopes.get(operation["operationId"]):
            operation["security"] = [{"key": [scope]}]
            operation["responses"] |= _refusals()


def _refusals() -> dict[str, Any]:
    headers = {
        HTTPStatus.UNAUTHORIZED: _CHALLENGE,
        HTTPStatus.FORBIDDEN: _CHALLENGE,
        HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    }
    found: dict[Any, Any] = {**responses({}, *headers)}
    return {str(int(s)): found[s] | {"headers": told} for s, told in headers.items()}


def _page_policy(nonce: str) -> str:
    # Swagger UI sets styles on its elements, and has its icons in its style sheet.
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _kept(response: Response) -> Response:
    # A browser may keep it, and asks each time whether it is still so.
    response.headers["Cache-Control"] = "no-cache"
    return response


def _swagger_ui() -> Path:
    # The package brings Swagger UI's files; its own page would ask an outside validator.
    spec = find_spec("flask_openapi3_swagger")
    if spec is None or spec.origin is None:
        raise RuntimeError("flask-openapi3-swagger is not installed")
    return Path(spec.origin).parent / "templates" / "swagger"
