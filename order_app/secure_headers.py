"""What each answer tells a browser: to guess nothing, load nothing and keep nothing."""

from flask import Flask, Response

#: An answer is data and no page; `/docs`, the one page, has a policy of its own.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Orders hold addresses; what may be kept says so itself.
    "Cache-Control": "no-store",
}


def install(app: Flask) -> None:
    """Add the headers to each answer that does not bring its own."""
    app.after_request(_add)


def _add(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
