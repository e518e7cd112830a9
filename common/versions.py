"""The versions of a fact: `order.created` is the first, `order.created.v2` the second, and so on.

Each is an event type of its own, with a contract, a routing key and a Celery task. Which there are
is said here as plain data: the topology follows from it, also where no event can be decoded.
"""

from collections.abc import Mapping

#: A fact's first type, to all of its types, oldest first. A fact that is not here has one.
VERSIONS: Mapping[str, tuple[str, ...]] = {
    "order.created": ("order.created", "order.created.v2"),
}


def versions(event_type: str) -> tuple[str, ...]:
    """Return all versions of the fact that an event type tells of, oldest first."""
    return next((types for types in VERSIONS.values() if event_type in types), (event_type,))


def from_on(event_type: str) -> tuple[str, ...]:
    """Return an event type and the newer versions of it, oldest first."""
    types = versions(event_type)
    return types[types.index(event_type) :]


def up_to(event_type: str) -> tuple[str, ...]:
    """Return an event type and the older versions of it, oldest first."""
    types = versions(event_type)
    return types[: types.index(event_type) + 1]


def label(event_type: str) -> str:
    """Return the version of an event type among those of its fact, such as `v2`."""
    return f"v{len(up_to(event_type))}"
