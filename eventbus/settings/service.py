"""Settings of a service's processes: a broker and a database."""

from pydantic import Field

from eventbus.settings.broker import BrokerSettings
from eventbus.settings.database import DatabaseSettings
from eventbus.topology.limits import PARTS_LIMIT


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """The settings of a service's worker or relay."""

    #: Whether a worker publishes task events (see `eventbus.worker.task_events`). Only for workers.
    task_events: bool = True
    #: The part of the service's queue that a worker consumes, from 0: the default is the only part
    #: of a queue that is not divided. Only for workers.
    worker_part: int = Field(0, ge=0, lt=PARTS_LIMIT)
