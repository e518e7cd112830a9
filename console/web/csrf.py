"""CSRF protection: a browser sends the password with requests that another site has forged."""

import hmac

from flask import Flask, abort, request

from console.settings import ConsoleSettings

#: The form field that contains the token.
FIELD = "token"

#: `Sec-Fetch-Site` for a form of this site, and for an address that was typed.
_SAME_SITE = frozenset({"same-origin", "none"})

_CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Require the token, which only this site's pages contain, of each request that changes data.

    Another site cannot read a page of this one, so it does not have the token.
    """
    token = key(settings, "form").hex()

    @app.before_request
    def check() -> None:
        if request.method not in _CHANGING:
            return
        submitted = request.form.get(FIELD, "")
        if not hmac.compare_digest(token.encode(), submitted.encode(errors="replace")):
            abort(403, "The form is not from this site, or the password has changed: reload it.")
        # Not Origin against Host, which a proxy may have rewritten. The browser itself compares.
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in _SAME_SITE:
            abort(403, "The form is from another site.")

    app.jinja_env.globals["token"] = token


def key(settings: ConsoleSettings, purpose: str) -> bytes:
    """Return a key for one purpose, which stays the same until the password changes."""
    password = settings.console_password.get_secret_value()
    return hmac.digest(password.encode(), f"orders console {purpose}".encode(), "sha256")
