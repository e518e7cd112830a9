"""The settings of a service's processes: a broker and a database."""

from eventbus.settings.broker import BrokerSettings
from eventbus.settings.database import DatabaseSettings


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """What a service's worker or relay reads."""

    #: A worker tells of its tasks (see `eventbus.worker.task_events`). Only a worker reads it.
    task_events: bool = True
