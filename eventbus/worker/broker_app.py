"""The Celery app of a process that uses the broker, and need not have a database.

It reads its settings at startup rather than at import.
"""

from functools import cached_property
from typing import Any

from celery import Celery

import eventbus.messaging.amqps  # noqa: F401 - registers its connections with Celery
from eventbus import tls
from eventbus.settings.base import load
from eventbus.settings.broker import BrokerSettings, broker_url


class BrokerApp(Celery):
    """The app of one process, with Celery settings from a module and the broker from `settings`."""

    log_cls = "eventbus.telemetry.logs:WorkerLogging"

    def __init__(
        self, name: str, *, settings: type[BrokerSettings], config: str, **options: Any
    ) -> None:
        super().__init__(name, **options)
        self._settings = settings
        self.config_from_object(config)
        self.add_defaults(self._derived_settings)

    @cached_property
    def settings(self) -> Any:
        """The validated settings; the process exits at the first access if one is invalid."""
        return load(self._settings)

    def _derived_settings(self) -> dict[str, Any]:
        """Return the Celery settings that follow from the settings of the process."""
        settings = self.settings
        return {
            "broker_url": broker_url(settings),
            "broker_use_ssl": tls.broker_options(settings),
            "broker_heartbeat": settings.broker_heartbeat,
            "broker_transport_options": {"client_properties": {"connection_name": self.main}},
        }
