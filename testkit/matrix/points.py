"""The points of the crash matrix: before and after each step between two durable states."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from testkit.campaign.system import WORKERS

#: The relays whose events decide an order.
_RELAYS = ("order-relay", "inventory-relay")

#: The operator's command that redrives parked messages.
REDRIVE = "orderctl"


class Moment(StrEnum):
    """The moment at which a program is interrupted."""

    BEFORE = "before"
    AFTER = "after"


class Way(StrEnum):
    """The way in which a program is interrupted."""

    #: The process receives SIGKILL.
    KILL = "kill"
    #: The process is suspended for some seconds.
    STOP = "stop"
    #: The step raises an exception.
    RAISE = "raise"


@dataclass(frozen=True)
class Step:
    """A function of the product, as `module:attribute`, and the programs that call it."""

    function: str
    programs: tuple[str, ...]
    #: The local part of the customer's address, which determines how the inventory's handler fails.
    customer: str = "ada"


#: The steps by name. A module's own reference to a function is replaced, not the function.
STEPS: Mapping[str, Step] = {
    "order": Step("order_app.storage.intake:write", ("api",)),
    "claim": Step("eventbus.outbox.claims:Claims.claim", _RELAYS),
    "publish": Step("eventbus.messaging.publisher:ConfirmingPublisher.send", _RELAYS),
    "confirm": Step("eventbus.messaging.publisher:ConfirmingPublisher.settle", _RELAYS),
    "mark": Step("eventbus.outbox.claims:Claims.mark_sent", _RELAYS),
    "inbox": Step("eventbus.consumer.receive:first_deliveries", WORKERS),
    "handlers": Step("eventbus.consumer.receive:_handle", WORKERS),
    "commit": Step("sqlalchemy.orm:SessionTransaction.commit", (*WORKERS, "analytics-reader")),
    "ack": Step("eventbus.worker.acknowledgements:Acknowledgements.acknowledge", WORKERS),
    "retry copy": Step(
        "eventbus.messaging.copy_channel:CopyChannel.send", ("inventory-worker",), "twice"
    ),
    "retry settled": Step(
        "eventbus.worker.settlement:Settlement._done", ("inventory-worker",), "twice"
    ),
    "mail": Step("notification_worker.smtp.transport:Transport.send", ("notification-mailer",)),
    "mail claim": Step("notification_worker.claims:claim", ("notification-mailer",)),
    "projection": Step("analytics_worker.stream_reader:project", ("analytics-reader",)),
    "offset": Step("analytics_worker.position:write", ("analytics-reader",)),
    "begin": Step("console.parking.redrive.progress:Progress.begin", (REDRIVE,)),
    "copy": Step("amqp.channel:Channel._basic_publish", (REDRIVE,)),
    "copy confirmed": Step("amqp.channel:Channel.basic_publish_confirm", (REDRIVE,)),
    "removal": Step("console.broker.parking_lot:ParkingLot.discard", (REDRIVE,)),
    "removal settled": Step("console.broker.parking_lot:ParkingLot.close", (REDRIVE,)),
    "outcome": Step("console.parking.redrive.stage:Stage._await", (REDRIVE,)),
    "end": Step("console.parking.redrive.progress:Progress.end", (REDRIVE,)),
}


@dataclass(frozen=True)
class Cell:
    """A program, and the point and the way in which it is interrupted once."""

    program: str
    step: str
    moment: Moment
    way: Way

    def __str__(self) -> str:
        return f"{self.program} {self.way} {self.moment} {self.step}"

    @property
    def module(self) -> str:
        """The module that replaces the program's module."""
        return f"testkit.programs.matrix.{self.program.replace('-', '_')}"


CELLS = tuple(
    Cell(program, step, moment, way)
    for step, described in STEPS.items()
    for program in described.programs
    for moment in Moment
    for way in Way
)


def sample(count: int, seed: int) -> Sequence[Cell]:
    """Return `count` cells that the seed selects. The first cells are of different programs."""
    shuffled = random.Random(seed).sample(CELLS, len(CELLS))
    firsts = {cell.program: cell for cell in reversed(shuffled)}
    others = [cell for cell in shuffled if cell is not firsts[cell.program]]
    return [*firsts.values(), *others][:count]
