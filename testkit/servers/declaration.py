"""The declaration of the topology in the vhosts of tests.

The first vhost of a broker is filled by `orderctl topology apply`. Later vhosts are filled with the
resulting definitions, in one request instead of over a hundred.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from console.actions import topology
from console.broker.management import Management
from console.settings import TopologySettings

#: Seconds of the first and the last retry tier. Each tier is a quorum queue of four services, whose
#: declaration takes a tenth of a second of processor time in total.
TIERS = (1.0, 600.0)

#: The kinds of the objects that belong to a vhost, in the broker's definitions.
_KINDS = ("permissions", "topic_permissions", "exchanges", "queues", "bindings")

Definitions = Mapping[str, Sequence[Mapping[str, Any]]]

#: The definitions, by the settings on which the topology depends.
_declared: dict[tuple[object, ...], Definitions] = {}


def declare(settings: TopologySettings) -> None:
    """Make an empty vhost match the code, as `orderctl topology apply` does."""
    key = (
        *map(str, settings.broker_admin_url),
        *settings.retry_tiers,
        *sorted(settings.parts.items()),
    )
    with Management(settings) as broker:
        if key not in _declared:
            list(topology.apply(settings))
            _declared[key] = _definitions(broker)
            return
        declared = _declared[key]
        objects = {
            kind: [{**each, "vhost": broker.vhost} for each in declared[kind]] for kind in _KINDS
        }
        # A test may have changed a user, and users belong to no vhost.
        known = broker.get("users")
        changed = [user for user in declared["users"] if user not in known]
        broker.send("POST", "definitions", body={"users": changed, **objects})


def _definitions(broker: Management) -> Definitions:
    """Return the objects of a vhost, and the users with permissions in it."""
    exported = broker.get("definitions")
    objects = {
        kind: [each for each in exported[kind] if each["vhost"] == broker.vhost] for kind in _KINDS
    }
    names = {permission["user"] for permission in objects["permissions"]} - {broker.user}
    return {**objects, "users": [user for user in broker.get("users") if user["name"] in names]}
