"""The selection of parked messages that a page lists, by event, order or group."""

from dataclasses import dataclass

from console.broker.parked_message import Parked
from console.parking.groups import cause, key_of


@dataclass(frozen=True, kw_only=True)
class Selection:
    """An operator's entries, of which an empty string selects all messages."""

    #: The id of an event or of an order.
    find: str = ""
    #: The key of a failure group.
    group: str = ""
    #: The last row of the index on the previous page.
    after: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether all messages are selected."""
        return not (self.find or self.group)

    def matches(self, parked: Parked) -> bool:
        """Return whether a message is selected. `after` applies only to the index."""
        if self.find and self.find not in (parked.id, parked.order_id):
            return False
        return not self.group or self.group == key_of(*cause(parked))


#: The selection of all messages.
ALL = Selection()
