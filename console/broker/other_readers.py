"""Messages of a parking lot that cannot be read, because another reader holds them."""

from contextlib import suppress

from console.broker import state
from console.broker.management import Management
from console.broker.parking_lot import ParkingLot
from console.broker.state import figure
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.topology.service import Service


def unread(settings: BrokerAdminSettings, service: Service, lot: ParkingLot) -> str:
    """Return text with the number of messages that another reader holds, or an empty string.

    The number comes from the broker's last count, which is up to five seconds old.
    """
    if not lot.is_shared:
        return ""
    total = None
    # Without the number, the other reader is still reported.
    with suppress(ActionError), Management(settings) as broker:
        total = figure(state.totals(broker).get(service.parking_lot), "messages")
    if total is None or total <= lot.depth:
        return "another reader may hold more"
    return f"{total - lot.depth} more are held by another reader"
