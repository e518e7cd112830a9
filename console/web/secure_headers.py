"""What each answer tells a browser: to load this site's own files only, and to keep no page."""

from flask import Flask, Response

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Parked messages hold addresses.
    "Cache-Control": "no-store",
}


def install(app: Flask) -> None:
    """Add the headers to each answer."""

    @app.after_request
    def add(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response
