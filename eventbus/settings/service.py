"""Settings for a service's processes: a broker and a database."""

from pydantic import Field

from eventbus.settings.broker import BrokerSettings
from eventbus.settings.database import DatabaseSettings
from eventbus.topology.limits import PARTS_LIMIT


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """The settings of a service's worker or relay."""

    #: Whether a worker publishes task events (see `eventbus.worker.task_events`).
    task_events: bool = True
    #: The number that is added to the nice value of the process. None means 0 for an essential
    #: service and 10 for any other, so that decisions about orders have priority on a busy machine.
    niceness: int | None = Field(None, ge=0, le=19)
    #: The part of the service's queue that a worker consumes, from 0. The default is the only part
    #: of a queue that is not divided. The setting applies only to workers.
    worker_part: int = Field(0, ge=0, lt=PARTS_LIMIT)
    #: The number of events that a worker parks within a minute, because their handler failed,
    #: before it pauses its service. The parked events must also be at least half of all events in
    #: that minute. With 0, the worker never pauses its service. The default of a hundred is more
    #: than the number of exceptional orders in a minute, and small enough for a redrive. The
    #: setting applies only to workers.
    parking_burst_limit: int = Field(100, ge=0, le=1_000_000)
