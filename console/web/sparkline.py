"""A sparkline: a figure over time as the points of a small SVG, without a script."""

from collections.abc import Iterator
from dataclasses import dataclass

from console.actions.figures import Figure, Line
from console.monitoring.prometheus import Values

#: The size in units of the drawing, which the page scales. Lines are two units wide, so there is a
#: margin.
WIDTH, HEIGHT, EDGE = 300, 60, 2

#: Number of steps that count as now, because the last value may not be known yet.
_NOW = 3


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure, its top value and the pieces of each line: unknown values are gaps."""

    figure: Figure
    top: float
    pieces: tuple[tuple[str, ...], ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(self.pieces)


def draw(figure: Figure) -> Drawing:
    """Return the drawing of a figure, with 0 at the bottom."""
    top = max((v for line in figure.lines for v in line.values if v is not None), default=0.0)
    return Drawing(
        figure=figure,
        top=top,
        pieces=tuple(tuple(_pieces(line.values, top)) for line in figure.lines),
    )


def latest(line: Line) -> float | None:
    """Return the current value of a line; None if it has had no value for some steps."""
    return next((value for value in reversed(line.values[-_NOW:]) if value is not None), None)


def _pieces(values: Values, top: float) -> Iterator[str]:
    across = (WIDTH - 2 * EDGE) / max(1, len(values) - 1)
    piece: list[str] = []
    for index, value in enumerate([*values, None]):
        if value is not None:
            height = value / top if top else 0.0
            y = HEIGHT - EDGE - height * (HEIGHT - 2 * EDGE)
            piece.append(f"{EDGE + index * across:.1f},{y:.1f}")
        elif piece:
            # A value between two gaps is drawn as a dot, which is a line from a point to itself.
            yield " ".join(piece if len(piece) > 1 else piece * 2)
            piece = []
