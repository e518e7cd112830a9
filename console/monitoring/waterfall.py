"""A trace as a tree: each span below its parent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from span_store.models import SpanRow


@dataclass(frozen=True)
class Fall:
    """A span, and its depth below the first span of its trace.

    If `is_orphan`, its parent is unknown, because the parent's process was killed or has not sent
    the parent yet.
    """

    span: SpanRow
    depth: int
    is_orphan: bool = False


def waterfall(spans: Sequence[SpanRow]) -> list[Fall]:
    """Return the spans of one trace, in the order of their start, as lines of a tree."""
    known = {span.span_id for span in spans}
    children: dict[str, list[SpanRow]] = {}
    first: list[SpanRow] = []
    for span in spans:
        if span.parent_id in known:
            children.setdefault(str(span.parent_id), []).append(span)
        else:
            first.append(span)

    def fall(span: SpanRow, depth: int) -> Iterator[Fall]:
        yield Fall(span, depth, is_orphan=depth == 0 and span.parent_id is not None)
        for child in children.get(span.span_id, ()):
            yield from fall(child, depth + 1)

    return [line for span in first for line in fall(span, 0)]
