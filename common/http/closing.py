"""What an app closes when its process ends, such as connections that it keeps open."""

from collections.abc import Callable
from weakref import finalize

from flask import Flask

_EXTENSION = "closing"


def at_end(app: Flask, close: Callable[[], object]) -> None:
    """Call a function once: when the server of an app has stopped, or the app is deleted.

    The function must not refer to the app, which would otherwise never be deleted.
    """
    app.extensions.setdefault(_EXTENSION, []).append(finalize(app, close))


def end(app: Flask) -> None:
    """Close what an app has opened. Its server has answered all requests."""
    for close in app.extensions.get(_EXTENSION, ()):
        close()
