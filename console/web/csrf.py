"""CSRF protection: a browser sends cookies and passwords with requests that another site forged."""

import hmac
import secrets

from flask import Flask, abort, g, request, session

from console.settings import ConsoleSettings

#: The form field that contains the token.
FIELD = "token"

#: The values of `Sec-Fetch-Site` for a form of this site, and for an address that was typed.
_SAME_SITE = frozenset({"same-origin", "none"})

#: Methods of requests that change data.
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Reject requests that change data without the token of the login.

    Only the pages of the login contain the token, and another site cannot read these pages.
    """
    form_key = key(settings, "form")

    def token() -> str:
        return hmac.digest(form_key, _binding().encode(errors="replace"), "sha256").hex()

    @app.before_request
    def check() -> None:
        if request.method not in CHANGING:
            return
        submitted = request.form.get(FIELD, "").encode(errors="replace")
        if not (_binding() and hmac.compare_digest(token().encode(), submitted)):
            abort(403, "The form is not of this login: reload its page, and send it again.")
        # Origin is not compared with Host, which a proxy may have rewritten. The browser itself
        # makes the comparison.
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in _SAME_SITE:
            abort(403, "The form is from another site.")

    app.context_processor(lambda: {"token": token()})


def bind_form() -> None:
    """Bind the form of the current page to a cookie: a client that logs in has no login yet."""
    session.setdefault("form", secrets.token_urlsafe())


def key(settings: ConsoleSettings, purpose: str) -> bytes:
    """Return a key for one purpose, which stays the same until the password changes."""
    password = settings.console_password.get_secret_value()
    return hmac.digest(password.encode(), f"orders console {purpose}".encode(), "sha256")


def _binding() -> str:
    """Return the value to which the token is bound: the login or, on the login page, a cookie."""
    bound: str = g.get("binding") or session.get("form", "")
    return bound
