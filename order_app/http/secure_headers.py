"""What each answer tells a browser: to guess nothing, load nothing and keep nothing."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: An answer is data and no page; `/docs`, the one page, has a policy of its own.
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # Orders hold addresses; what may be kept says so itself.
    ("Cache-Control", "no-store"),
)


def install(app: Flask) -> None:
    """Add the headers to each answer that does not bring its own."""
    # Around the app, not in it: to ask and add there costs twenty times as much, each time.
    answer = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            own = {name for name, _ in headers}
            added = [header for header in _HEADERS if header[0] not in own]
            return start_response(status, headers + added, *error)

        return answer(environ, start)

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
