"""The index of the inventory's parking lot."""

from collections.abc import Iterable

from amqp import Channel

from common.kombu_topology import CONSOLE, INVENTORY
from console.broker.state import Object
from console.databases.service_database import sessions, transaction
from console.parking.index import reading, renewal, rows
from console.settings import DiscardSettings
from testkit.data.parked import park
from testkit.eventually import becomes

LOT = INVENTORY.parking_lot


def read(settings: DiscardSettings) -> None:
    """Read the parking lot into the index."""
    reading.read(settings, INVENTORY)


def renew(settings: DiscardSettings, count: int) -> None:
    """Renew the index when the broker counts this many messages."""
    totals: dict[str, Object] = {LOT: {"messages": count}}
    with sessions(settings, CONSOLE) as own:
        renewal.renew(settings, own, totals)


def indexed(settings: DiscardSettings) -> list[str]:
    """Return the ids of the messages in the index."""
    with transaction(settings, CONSOLE) as session:
        found = rows.oldest(session, "inventory", limit=100_000)
        return [parked.id for parked in found.values()]


def read_at(settings: DiscardSettings) -> object:
    """Return the time of the last reading."""
    with transaction(settings, CONSOLE) as session:
        lot = rows.lot(session, "inventory")
        return lot and lot.read_at


def depth(channel: Channel) -> int:
    """Return the number of messages in the parking lot that no reader holds."""
    return int(channel.queue_declare(LOT, passive=True).message_count)


def parks(channel: Channel, event_ids: Iterable[str]) -> None:
    """Park messages, and wait until the queue has them."""
    expected = depth(channel)
    for event_id in event_ids:
        park(channel, event_id, type="order.created")
        expected += 1
    becomes(lambda: depth(channel), expected)
