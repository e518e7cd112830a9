"""Security headers, which keep browsers from sniffing types, loading content and caching."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The policy for responses, which are data rather than pages; `/docs`, the only page, has its own
#: policy.
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # Orders contain email addresses. A response that may be cached sets its own header.
    ("Cache-Control", "no-store"),
)


def install(app: Flask) -> None:
    """Add the headers to each response that does not set them itself."""
    # The headers are added around the app, because checking and adding them inside the app costs
    # twenty times as much.
    inner = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            present = {name for name, _ in headers}
            missing = [header for header in _HEADERS if header[0] not in present]
            return start_response(status, headers + missing, *error)

        return inner(environ, start)

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
