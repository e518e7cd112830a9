"""The diagram of an order's flow: a line for each participant and an arrow for each step."""

from collections.abc import Mapping
from dataclasses import dataclass

from console.orders.flow import Flow, Outcome, Step
from console.web.readable import age, count

#: Distances between two lifelines, between two arrows, and above the first arrow, in pixels.
COLUMN, ROW, TOP = 190, 46, 70

#: The width of another attempt, which starts and ends at one lifeline, and room for its label.
_LOOP, _BESIDE = 30, 190

#: Half the height and the length of an arrow's head.
_HEAD, _LENGTH = 4, 9

#: Seconds up to which a time is shown in milliseconds.
_IN_MILLISECONDS = 10.0

#: Maximum number of characters of a label next to an arrow; the list of steps contains the full
#: text.
_LABEL = 26


@dataclass(frozen=True, kw_only=True)
class Lifeline:
    """A participant and the place of its line."""

    name: str
    x: int


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A step: its line as the path of an SVG, its head as points, and its two labels."""

    step: Step
    path: str
    head: str
    x: int
    y: int
    anchor: str
    label: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The lifelines and arrows of a flow, in a frame of this size."""

    width: int
    height: int
    lifelines: tuple[Lifeline, ...]
    arrows: tuple[Arrow, ...]


def draw(flow: Flow) -> Drawing:
    """Return the drawing of a flow."""
    columns = {name: COLUMN // 2 + COLUMN * n for n, name in enumerate(flow.participants)}
    arrows = tuple(_arrow(step, TOP + ROW * n, columns) for n, step in enumerate(flow.steps))
    last = max(columns.values(), default=0)
    is_beside = any(arrow.anchor == "start" and arrow.x > last for arrow in arrows)
    return Drawing(
        width=last + (_LOOP + _BESIDE if is_beside else COLUMN // 2),
        height=TOP + ROW * len(arrows),
        lifelines=tuple(Lifeline(name=name, x=x) for name, x in columns.items()),
        arrows=arrows,
    )


def described(step: Step) -> str:
    """Return a step as a sentence without its period."""
    sender = f" from {step.sender}" if step.sender else ""
    moment = f", {_time(step)} after the order was placed" if step.after is not None else ""
    return f"{step.event_type}{sender} to {step.receiver}: {step.text}{moment}"


def _arrow(step: Step, y: int, columns: Mapping[str, int]) -> Arrow:
    end = columns[step.receiver]
    start = columns[step.sender] if step.sender else end
    short = _shortened(step.text)
    is_short = step.outcome is Outcome.HANDLED and step.sender is not None and "at" not in short
    parts = ("" if is_short else short, _time(step))
    caption = " \N{MIDDLE DOT} ".join(part for part in parts if part)
    if start == end:
        path = f"M{end},{y - 8} h{_LOOP} v16 h-{_LOOP - _LENGTH}"
        head, x, anchor = _head(end, y + 8, -1), end + _LOOP + 6, "start"
    else:
        direction = 1 if end > start else -1
        path = f"M{start},{y} H{end - direction * _LENGTH}"
        head, x, anchor = _head(end, y, direction), (start + end) // 2, "middle"
    return Arrow(
        step=step,
        path=path,
        head=head,
        x=x,
        y=y,
        anchor=anchor,
        label=step.event_type,
        caption=caption,
    )


def _head(x: int, y: int, direction: int) -> str:
    back = x - direction * _LENGTH
    return f"{x},{y} {back},{y - _HEAD} {back},{y + _HEAD}"


def _shortened(text: str) -> str:
    first = text.partition(":")[0]
    return first if len(first) <= _LABEL else f"{first[: _LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _time(step: Step) -> str:
    if step.after is None:
        return ""
    # The clocks of two databases differ slightly.
    seconds = max(0.0, step.after.total_seconds())
    return f"{count(seconds * 1000)} ms" if seconds < _IN_MILLISECONDS else age(seconds)
