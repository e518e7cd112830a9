"""The resources that an app closes when its process ends, such as open connections."""

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
    """Close the resources of an app whose server has answered all requests."""
    for close in app.extensions.get(_EXTENSION, ()):
        close()
