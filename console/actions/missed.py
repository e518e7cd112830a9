"""Events that a service's queue has dropped and that have not yet been read from the stream."""

from dataclasses import dataclass

from console.databases.service_database import Databases
from eventbus.catch_up import overflow
from eventbus.topology.service import Service


@dataclass(frozen=True, kw_only=True)
class Missed:
    """The time for which events have been missing, or 0, and how often events were lost."""

    seconds: float
    gaps: int


def read(databases: Databases, service: Service) -> Missed:
    """Return the missing events, as recorded in the service's database."""
    with databases.transaction(service) as session:
        state, now = overflow.read(session)
    since = state.requested_at
    return Missed(seconds=(now - since).total_seconds() if since else 0.0, gaps=state.gaps)
