"""Process: celery-exporter, which counts what the workers tell of their tasks, for Prometheus.

It runs in its own environment, in which only `eventbus.settings` can be imported.
"""

import json
import os
from functools import partial
from typing import Any

from celery import Celery

from eventbus import tls
from eventbus.settings.base import load
from eventbus.settings.broker import broker_url
from monitor.settings import ExporterSettings
from monitor.silence import Silence, declare_no_exchange

#: Seconds between two attempts to reach the broker.
RETRY_INTERVAL = 2


def main() -> None:
    """Count and serve until the process is told to end."""
    settings = load(ExporterSettings)
    # Its log would show the values of variables beside an error's trace, passwords among them.
    os.environ["LOGURU_DIAGNOSE"] = "NO"
    from src import exporter  # type: ignore[import-not-found]

    declare_no_exchange()
    exporter.Celery = partial(Celery, control=Silence)
    exporter.Exporter().run(options(settings))


def options(settings: ExporterSettings) -> dict[str, Any]:
    """Return what the exporter's command line would say; a password has no place there."""
    trust = tls.broker_options(settings)
    client = {"connection_name": "exporter"}
    return {
        "broker_url": broker_url(settings),
        # Each as text: of an enumeration, Python's ssl takes the number, too.
        "broker_ssl_option": [f"{name}={value!s}" for name, value in trust.items()],
        "broker_transport_option": [f"client_properties={json.dumps(client)}"],
        "accept_content": "json",
        "retry_interval": RETRY_INTERVAL,
        "log_level": settings.log_level,
        "host": settings.metrics_host,
        "port": settings.exporter_port,
    }


if __name__ == "__main__":
    main()
