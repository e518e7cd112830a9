"""The number of queue parts of each service, from a setting such as `inventory=4,order=2`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from common.kombu_topology import CONSUMERS, SERVICES
from eventbus.settings.outbox import SLOTS
from eventbus.topology.limits import PARTS_LIMIT

#: The services whose queues can have parts.
DIVISIBLE = tuple(service.name for service in CONSUMERS)

#: The services whose outboxes several relays can share.
PUBLISHERS = tuple(service.name for service in SERVICES if service.publishes)


def _parser(allowed: Sequence[str], limit: int, lack: str) -> Callable[[object], object]:
    def parsed(value: object) -> object:
        if not isinstance(value, str):
            return value
        numbers: dict[str, int] = {}
        for part in value.replace(" ", "").split(",") if value.strip() else ():
            name, _, number = part.partition("=")
            if not (number.isascii() and number.isdecimal()):
                raise ValueError(f"{part!r} is not SERVICE=NUMBER")
            if name not in allowed:
                raise ValueError(f"{name!r} has no {lack}; these have: {', '.join(allowed)}")
            if name in numbers:
                raise ValueError(f"{name!r} occurs twice")
            if not 1 <= int(number) <= limit:
                raise ValueError(f"{part} is not between 1 and {limit}")
            numbers[name] = int(number)
        return numbers

    return parsed


#: The number of queue parts by service. A service that is not mentioned has one part.
Parts = Annotated[
    Mapping[str, int],
    NoDecode,
    BeforeValidator(_parser(DIVISIBLE, PARTS_LIMIT, "queue")),
]

#: The number of relays by service. A service that is not mentioned has one relay.
Relays = Annotated[
    Mapping[str, int], NoDecode, BeforeValidator(_parser(PUBLISHERS, SLOTS, "outbox"))
]
