"""Refuses what another site makes a browser send: it sends the password along by itself."""

import hmac

from flask import Flask, abort, request

from console.settings import ConsoleSettings

#: The form's field.
FIELD = "token"

#: What a browser says of a form of this site, or of an address that was typed.
_OWN = frozenset({"same-origin", "none"})

_CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Demand the token, which only this site's own pages hold, of each request that changes.

    Another site cannot read a page of this one, so it has no token.
    """
    token = key(settings, "form").hex()

    @app.before_request
    def check() -> None:
        if request.method not in _CHANGING:
            return
        given = request.form.get(FIELD, "")
        if not hmac.compare_digest(token.encode(), given.encode(errors="replace")):
            abort(403, "The form is not from this page, or from before a new password: reload it.")
        # Not Origin against Host, which a proxy may have rewritten. The browser itself compares.
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in _OWN:
            abort(403, "The form is from another site.")

    app.jinja_env.globals["token"] = token


def key(settings: ConsoleSettings, purpose: str) -> bytes:
    """Return a key for one purpose, the same until the password changes."""
    password = settings.console_password.get_secret_value()
    return hmac.digest(password.encode(), f"orders console {purpose}".encode(), "sha256")
