"""The parts of the map: the texts and the level of each box and each arrow of a service."""

from collections.abc import Callable
from dataclasses import dataclass

from console.web.overview.rows import Row
from console.web.overview.shapes import Arrow, Box, Level, Place, Point, arrow
from console.web.readable import age, count, measure

#: Seconds of waiting after which an event is late. Normally, it waits for a few milliseconds.
LATE = 10.0

#: A function that returns the address of an endpoint.
Address = Callable[..., str]


@dataclass(frozen=True)
class Parts:
    """The parts of one service, placed by a layout."""

    row: Row
    address: Address

    def outbox(self, place: Place) -> Box:
        """Return the outbox with its relay."""
        waiting, level = self.row.waiting, Level.UNKNOWN
        text = "outbox unknown"
        if waiting:
            unsent = waiting.unsent
            text = f"{count(unsent.unsent)} unsent"
            level = Level.GOOD
            if unsent.oldest_unsent_seconds > LATE:
                level = Level.WARN
            if unsent.unroutable:
                text += f", {count(unsent.unroutable)} unroutable"
            if unsent.unroutable or self.row.relay_problem:
                level = Level.BAD
        return self._box(place, f"{self._name} outbox", text, level, "outbox")

    def queue(self, place: Place) -> Box:
        """Return the queue, or the stream if the service reads it."""
        row, service = self.row, self.row.service
        if service.reads_stream and not service.consumes:
            title, text = service.bus.stream, f"{_figure(row.depth)} kept"
        else:
            title, text = service.queue, f"{_figure(row.depth)} queued"
        level = Level.UNKNOWN if row.depth is None else Level.GOOD
        if row.missed and (row.missed.seconds or row.missed.gaps):
            level = Level.BAD if row.missed.gaps else Level.WARN
            text += ", catching up"
        elif (row.oldest_seconds or 0) > LATE:
            level = Level.WARN
        return self._box(place, title, text, level, "queue")

    def worker(self, place: Place) -> Box:
        """Return the worker of the queue, or the reader of the stream."""
        row = self.row
        if row.pause:
            title, text, level = f"{self._name} worker", "paused", Level.WARN
        elif row.service.consumes:
            title = f"{self._name} worker"
            number = row.consumers
            text = f"{_figure(number)} {'consumer' if number == 1 else 'consumers'}"
            level = _level(number is not None, number == 0)
        else:
            title = f"{self._name} reader"
            behind = row.behind_seconds
            text = "position unknown" if behind is None else f"{age(behind)} behind"
            level = Level.UNKNOWN if behind is None else Level.GOOD
            level = Level.WARN if (behind or 0) > 3 * LATE else level
        return self._box(place, title, text, level, "worker")

    def retries(self, place: Place) -> Box:
        """Return all retry tiers."""
        tiers, total = self.row.tiers or {}, self.row.retrying
        held = ", ".join(f"{name} {count(number)}" for name, number in tiers.items() if number)
        level = Level.UNKNOWN if total is None else Level.WARN if total else Level.GOOD
        text = "unknown" if total is None else held or "none"
        return self._box(place, "Retrying", text, level, "retries")

    def parked(self, place: Place) -> Box:
        """Return the parking lot."""
        number = self.row.parked
        text = "unknown" if number is None else count(number) if number else "none"
        if number and self.row.parked_seconds:
            text += f", for {age(self.row.parked_seconds)}"
        level = _level(number is not None, bool(number))
        link = f"{self.address('parked.show_groups')}#{self._name}" if number else ""
        return self._box(place, "Parked", text, level, "parked", link)

    def publishing(self, start: Point, end: Point) -> Arrow:
        """Return the arrow from the outbox to the exchange."""
        row, waiting = self.row, self.row.waiting
        oldest = waiting.unsent.oldest_unsent_seconds if waiting else None
        return arrow(
            start,
            end,
            rate=_rate(row.published),
            age=_oldest(oldest),
            level=_age_level(oldest, is_stopped=bool(row.relay_problem)),
            label=f"{self._name} publishes {_rate(row.published)}; {_described(oldest, 'unsent')}",
        )

    def routing(self, start: Point, end: Point) -> Arrow:
        """Return the arrow from the exchange to the queue."""
        rate = _rate(self.row.arriving)
        level = Level.UNKNOWN if self.row.arriving is None else Level.GOOD
        label = f"{rate} routed to {self.row.service.queue}"
        return arrow(start, end, rate=rate, age="", level=level, label=label)

    def handling(self, start: Point, end: Point) -> Arrow:
        """Return the arrow from the queue to the worker."""
        row, oldest = self.row, self.row.waiting_seconds
        # A reader of the stream checks for events about once a second.
        if not row.service.consumes and oldest is not None and oldest < LATE:
            oldest = 0.0
        return arrow(
            start,
            end,
            rate=_rate(row.handled),
            age=_oldest(oldest),
            level=_age_level(oldest, is_stopped=bool(row.pause) or row.consumers == 0),
            label=f"{self._name} handles {_rate(row.handled)}; {_described(oldest, 'queued')}",
        )

    @property
    def _name(self) -> str:
        return self.row.service.name

    def _box(
        self, place: Place, title: str, text: str, level: Level, anchor: str, link: str = ""
    ) -> Box:
        page = self.address("overview.show_service", service=self._name)
        x, y, width, height = place
        return Box(
            x=x,
            y=y,
            width=width,
            height=height,
            title=title,
            text=text,
            level=level,
            link=link or f"{page}#{anchor}",
        )


def _figure(number: int | None) -> str:
    return "unknown" if number is None else count(number)


def _level(is_known: bool, is_bad: bool) -> Level:
    if not is_known:
        return Level.UNKNOWN
    return Level.BAD if is_bad else Level.GOOD


def _age_level(seconds: float | None, *, is_stopped: bool) -> Level:
    if is_stopped:
        return Level.BAD
    if seconds is None:
        return Level.UNKNOWN
    return Level.WARN if seconds > LATE else Level.GOOD


def _rate(value: float | None) -> str:
    return "?/s" if value is None else measure(value, "/s")


def _oldest(seconds: float | None) -> str:
    return "oldest ?" if seconds is None else f"oldest {age(seconds)}" if seconds else ""


def _described(seconds: float | None, state: str) -> str:
    if seconds is None:
        return f"the age of the oldest {state} event is unknown"
    return f"the oldest {state} event is {age(seconds)} old" if seconds else f"no event is {state}"
