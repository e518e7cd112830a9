"""PROCESS: celery-exporter, which counts the task events of workers, for Prometheus.

It runs in its own virtual environment, which lacks most dependencies, so it can import little more
of `eventbus` than the settings.
"""

import json
import os
from functools import partial
from typing import Any

from celery import Celery

from eventbus import tls
from eventbus.settings.base import load
from eventbus.settings.broker import broker_url
from monitor.no_remote_control import Silence, declare_no_exchange
from monitor.settings import ExporterSettings

#: Seconds between two attempts to reach the broker.
RETRY_INTERVAL = 2


def main() -> None:
    """Count task events and serve the metrics until a signal terminates the process."""
    settings = load(ExporterSettings)
    # The exporter's own log would add the values of variables, including passwords, to tracebacks.
    os.environ["LOGURU_DIAGNOSE"] = "NO"
    from src import exporter  # type: ignore[import-not-found]

    declare_no_exchange()
    exporter.Celery = partial(Celery, control=Silence)
    exporter.Exporter().run(options(settings))


def options(settings: ExporterSettings) -> dict[str, Any]:
    """Return the exporter's options; its command line would expose the password."""
    tls_options = tls.broker_options(settings)
    client = {"connection_name": "exporter"}
    return {
        "broker_url": broker_url(settings),
        # Each value is text. Where an enumeration is required, Python's ssl also accepts its
        # number.
        "broker_ssl_option": [f"{name}={value!s}" for name, value in tls_options.items()],
        "broker_transport_option": [f"client_properties={json.dumps(client)}"],
        "accept_content": "json",
        "retry_interval": RETRY_INTERVAL,
        "log_level": settings.log_level,
        "host": settings.metrics_host,
        "port": settings.exporter_port,
    }


if __name__ == "__main__":
    main()
