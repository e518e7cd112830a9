"""gunicorn's settings for the API: its processes share the modules that the first one has loaded.

Only the modules: an app has connections and a thread, which do not survive a fork.
"""

import gc
from typing import Any

import order_app.app  # noqa: F401, loaded before the fork


def when_ready(_arbiter: Any) -> None:
    """Keep what is loaded out of the collector's reach, whose marks would copy its pages."""
    gc.collect()
    gc.freeze()
