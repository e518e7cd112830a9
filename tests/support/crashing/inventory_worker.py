"""The inventory's worker, killed when an event is committed and not yet acknowledged."""

from common.celery_worker import EventRequest
from inventory_worker.worker import app  # noqa: F401
from tests.support.crashing import die


def _die_instead(_request: EventRequest) -> None:
    die()


EventRequest.acknowledge = _die_instead
