"""gunicorn's settings for the API: its processes share the modules that the first one has loaded.

Only the modules: an app has connections and a thread, which do not survive a fork. Each app learns
from its process how many requests wait.
"""

import gc
from typing import Any

import order_app.app  # noqa: F401, loaded before the fork
from order_app import overload


def when_ready(_arbiter: Any) -> None:
    """Keep what is loaded out of the collector's reach, whose marks would copy its pages."""
    gc.collect()
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """Let the app see the queue in front of its threads."""
    overload.measure(worker.wsgi, worker.tpool._work_queue.qsize)
