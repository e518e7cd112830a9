"""Response headers: a browser loads only this site's files, and stores no page."""

from flask import Flask, Response, request
from flask.sessions import SecureCookieSessionInterface

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Parked messages contain addresses.
    "Cache-Control": "no-store",
}


class _Cookies(SecureCookieSessionInterface):
    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def install(app: Flask) -> None:
    """Add the headers to each response. A cookie that is set over HTTPS is sent only over HTTPS."""
    app.session_interface = _Cookies()

    @app.after_request
    def add(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response
