"""Versions of a fact: `order.created` is the first, `order.created.v2` the second, and so on.

Each version is an event type with its own contract, routing key and Celery task.
"""

from eventbus.events.catalogue import current


def versions(event_type: str) -> tuple[str, ...]:
    """Return the types of all versions of an event type's fact, oldest first."""
    return current().facts.get(event_type, (event_type,))


def from_on(event_type: str) -> tuple[str, ...]:
    """Return an event type and the types of newer versions, oldest first."""
    types = versions(event_type)
    return types[types.index(event_type) :]


def up_to(event_type: str) -> tuple[str, ...]:
    """Return an event type and the types of older versions, oldest first."""
    types = versions(event_type)
    return types[: types.index(event_type) + 1]


def label(event_type: str) -> str:
    """Return the version number of an event type within its fact, such as `v2`."""
    return f"v{len(up_to(event_type))}"
