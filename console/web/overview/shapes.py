"""The shapes of the map: boxes and arrows with their texts, in units of the drawing."""

from dataclasses import dataclass
from enum import StrEnum

#: Half the height and the length of an arrow's head.
_HEAD, _LENGTH = 5, 9


class Level(StrEnum):
    """The state of a part. Each has a mark, because colours alone are not accessible."""

    GOOD = "good"
    #: The part waits, or has been stopped on purpose.
    WARN = "warn"
    BAD = "bad"
    #: The source does not report the state of the part, which is neither good nor bad.
    UNKNOWN = "unknown"

    @property
    def mark(self) -> str:
        """One character that distinguishes the level."""
        return _MARKS[self]


_MARKS = {
    Level.GOOD: "\N{CHECK MARK}",
    Level.WARN: "\N{DOUBLE VERTICAL LINE}",
    Level.BAD: "!",
    Level.UNKNOWN: "?",
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A part of the system, which links to its page; `text` is its second line."""

    x: int
    y: int
    width: int
    height: int
    title: str
    text: str
    level: Level
    link: str

    @property
    def label(self) -> str:
        """The box in words."""
        return f"{self.title}: {self.text}"

    @property
    def middle(self) -> int:
        """The height at which arrows start and end."""
        return self.y + self.height // 2


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A flow of messages: its line as the path of an SVG, its head as points, and its texts."""

    path: str
    head: str
    x: int
    y: int
    #: Whether the texts are beside the arrow; otherwise, the rate is above it, and the age below.
    is_down: bool
    rate: str
    age: str
    level: Level
    #: The arrow in words.
    label: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """The exchange, through which all events pass: a bar."""

    name: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A map in a frame of this size."""

    width: int
    height: int
    exchange: Exchange
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


#: A point of the drawing, and the place of a box: its left and upper edge, width and height.
Point = tuple[int, int]
Place = tuple[int, int, int, int]


def arrow(start: Point, end: Point, *, rate: str, age: str, level: Level, label: str) -> Arrow:
    """Return an arrow to the left, to the right or down."""
    (x1, y1), (x2, y2) = start, end
    is_down = x1 == x2
    if is_down:
        back = y2 - _LENGTH
        path = f"M{x1},{y1} V{back}"
        head = f"{x2},{y2} {x2 - _HEAD},{back} {x2 + _HEAD},{back}"
    else:
        back = x2 - _LENGTH if x2 > x1 else x2 + _LENGTH
        path = f"M{x1},{y1} H{back}"
        head = f"{x2},{y2} {back},{y2 - _HEAD} {back},{y2 + _HEAD}"
    return Arrow(
        path=path,
        head=head,
        x=x1 + 12 if is_down else (x1 + x2) // 2,
        y=(y1 + y2) // 2,
        is_down=is_down,
        rate=rate,
        age=age,
        level=level,
        label=label,
    )
