"""The map of outboxes, the exchange, queues and workers, for wide and narrow screens."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from console.web.overview.parts import Address, Parts
from console.web.overview.rows import Row
from console.web.overview.shapes import Arrow, Box, Drawing, Exchange

#: The height of a box and of a small box, the margin, and the width of the exchange.
HEIGHT, SMALL, EDGE, BAR = 46, 40, 4, 32

#: The wide map: the width of a box and of a small box, the length of an arrow, and the distances
#: between the rows of services with and without small boxes.
_BOX, _SMALL_BOX, _ARROW = 180, 146, 122
_TALL, _LOW = 98, 62

#: The narrow map: its width, the left edge of its boxes, the length of an arrow that points down,
#: and the distance between two services.
_NARROW, _LEFT, _DOWN, _BETWEEN = 356, 148, 40, 26


@dataclass
class _Sheet:
    """A map that is being drawn from top to bottom."""

    address: Address
    y: int = EDGE
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)

    def finished(self, name: str, x: int, width: int) -> Drawing:
        """Return the map, with the exchange at `x`."""
        exchange = Exchange(name=name, x=x, y=0, width=BAR, height=self.y)
        boxes, arrows = tuple(self.boxes), tuple(self.arrows)
        return Drawing(
            width=width, height=self.y + EDGE, exchange=exchange, boxes=boxes, arrows=arrows
        )


def wide(rows: Iterable[Row], exchange: str, address: Address) -> Drawing:
    """Return the map with the outboxes to the left of the exchange, and the rest to its right."""
    sheet = _Sheet(address)
    bar = EDGE + _BOX + _ARROW
    queue = bar + BAR + _ARROW
    worker = queue + _BOX + _ARROW
    beside = worker + _BOX + 16
    for row in rows:
        parts, y, middle = Parts(row, address), sheet.y, sheet.y + HEIGHT // 2
        if row.service.publishes:
            sheet.boxes.append(parts.outbox((EDGE, y, _BOX, HEIGHT)))
            sheet.arrows.append(parts.publishing((EDGE + _BOX, middle), (bar, middle)))
        sheet.boxes += [
            parts.queue((queue, y, _BOX, HEIGHT)),
            parts.worker((worker, y, _BOX, HEIGHT)),
        ]
        sheet.arrows += [
            parts.routing((bar + BAR, middle), (queue, middle)),
            parts.handling((queue + _BOX, middle), (worker, middle)),
        ]
        if row.service.consumes:
            sheet.boxes += [
                parts.retries((beside, y, _SMALL_BOX, SMALL)),
                parts.parked((beside, y + SMALL + 6, _SMALL_BOX, SMALL)),
            ]
        sheet.y += _TALL if row.service.consumes else _LOW
    return sheet.finished(exchange, bar, beside + _SMALL_BOX + EDGE)


def narrow(rows: Iterable[Row], exchange: str, address: Address) -> Drawing:
    """Return the map with the exchange on the left, and one service below the other."""
    sheet = _Sheet(address)
    width, down = _NARROW - _LEFT - EDGE, _LEFT + 28
    bar = EDGE + BAR
    for row in rows:
        parts, y = Parts(row, address), sheet.y
        sheet.boxes.append(parts.queue((_LEFT, y, width, HEIGHT)))
        sheet.arrows.append(parts.routing((bar, y + HEIGHT // 2), (_LEFT, y + HEIGHT // 2)))
        sheet.arrows.append(parts.handling((down, y + HEIGHT), (down, y + HEIGHT + _DOWN)))
        y += HEIGHT + _DOWN
        sheet.boxes.append(parts.worker((_LEFT, y, width, HEIGHT)))
        y += HEIGHT + 6
        if row.service.consumes:
            half = (width - 6) // 2
            sheet.boxes.append(parts.retries((_LEFT, y, half, SMALL)))
            sheet.boxes.append(parts.parked((_LEFT + half + 6, y, half, SMALL)))
            y += SMALL + 6
        if row.service.publishes:
            sheet.boxes.append(parts.outbox((_LEFT, y, width, HEIGHT)))
            middle = y + HEIGHT // 2
            sheet.arrows.append(parts.publishing((_LEFT, middle), (bar, middle)))
            y += HEIGHT + 6
        sheet.y = y + _BETWEEN
    return sheet.finished(exchange, EDGE, _NARROW)
