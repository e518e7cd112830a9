"""The API's description, and the page that shows it without any outside network."""

from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, jsonify, render_template
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

INFO = Info(
    title="Orders API",
    version="1",
    description=(
        "Place orders, watch them and cancel them. Every error is a problem document (RFC 9457) "
        "that names the field. A request may carry a W3C `traceparent` header; its trace then "
        "includes every event that follows from it."
    ),
)


def install(app: OpenAPI, *, currencies: tuple[str, ...]) -> None:
    """Serve `/openapi.json` and `/docs`; call it when all routes are registered."""
    document = app.api_doc
    for operation in (o for path in document["paths"].values() for o in path.values()):
        operation["description"] = operation.get("description", "").replace("<br/>", " ").strip()
    document["components"]["schemas"]["NewOrder"]["properties"]["currency"]["enum"] = currencies
    pages = Blueprint(
        "description", __name__, static_folder=_swagger_ui(), static_url_path="/docs/assets"
    )

    @pages.get("/openapi.json")
    def openapi_json() -> Response:
        return jsonify(document)

    @pages.get("/docs")
    def docs() -> str:
        return render_template("docs.html", title=INFO.title)

    app.register_blueprint(pages)


def _swagger_ui() -> Path:
    # The package brings Swagger UI's files; its own page would ask an outside validator.
    spec = find_spec("flask_openapi3_swagger")
    if spec is None or spec.origin is None:
        raise RuntimeError("flask-openapi3-swagger is not installed")
    return Path(spec.origin).parent / "templates" / "swagger"
