"""Settings of a service's processes: a broker and a database."""

from eventbus.settings.broker import BrokerSettings
from eventbus.settings.database import DatabaseSettings


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """The settings of a service's worker or relay."""

    #: Whether a worker publishes task events (see `eventbus.worker.task_events`). Only for workers.
    task_events: bool = True
