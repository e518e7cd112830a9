"""The difference between two payloads, and the paths that name their values."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console.errors import ActionError
from eventbus.messaging.untrusted import text

#: The path of a payload in its envelope.
ROOT = "$.data"

#: Maximum number of values that may differ. Each is shown before an edit, and stored with it.
LIMIT = 200

#: Maximum number of characters in a path. It limits the depth of nesting and the memory used. The
#: paths of events have about fifty characters.
PATH_LIMIT = 500

#: The pattern of a step in a path: a field, a quoted field, or an index.
_STEP = re.compile(r'\.([A-Za-z_]\w*)|\[("(?:[^"\\]|\\["\\])*")\]|\[(\d{1,6})\]')

_ASSIGNMENT = re.compile(rf"(?:\$\.)?data((?:{_STEP.pattern})*)=", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A value that differs: its path, and both values as JSON, None if a value is missing."""

    path: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        return f"{self.path}: {self.old or '(missing)'} → {self.new or '(missing)'}"


def difference(old: Any, new: Any) -> tuple[Change, ...]:
    """Return the values that differ, in the order of the first payload; additions are last.

    Raises `ActionError` if there are more than `LIMIT`.
    """
    before, after = dict(_values(old)), dict(_values(new))
    changes = tuple(
        Change(path=path, old=before.get(path), new=after.get(path))
        for path in before | after
        if before.get(path) != after.get(path)
    )
    if len(changes) > LIMIT:
        raise ActionError(f"{len(changes)} values differ: at most {LIMIT} can be edited at once")
    return changes


def unknown(changes: Sequence[Change], accepted: Any) -> tuple[str, ...]:
    """Return the paths of new values that are not in the accepted form of a payload."""
    known = {path for path, _ in _values(accepted)}
    return tuple(c.path for c in changes if c.new and c.old is None and c.path not in known)


def with_value(payload: Any, assignment: str) -> Any:
    """Return a payload with one value replaced or added, as in `data.lines[0].quantity=2`.

    The payload itself may be changed. Raises `ActionError` naming the path.
    """
    match = _ASSIGNMENT.match(assignment)
    if match is None:
        raise ActionError(
            f"{assignment.partition('=')[0]!r} is not the path of a value in the payload, such as"
            " data.lines[0].quantity: the rest of an event cannot be edited"
        )
    path = ROOT + match[1]
    try:
        value = json.loads(assignment[match.end() :])
    except (ValueError, RecursionError):
        raise ActionError(
            f'{path}: the value is not JSON; a text has quotes, as in "TEA"'
        ) from None
    steps = _steps(match[1])
    if not steps:
        return value
    parent = payload
    for step in steps[:-1]:
        if not _has(parent, step):
            raise ActionError(f"{path} does not exist")
        parent = parent[step]
    _assign(parent, steps[-1], value, path)
    return payload


def _assign(parent: Any, step: str | int, value: Any, path: str) -> None:
    if isinstance(parent, list) and step == len(parent):
        parent.append(value)
    elif _has(parent, step) or (isinstance(parent, dict) and isinstance(step, str)):
        parent[step] = value
    else:
        raise ActionError(f"{path} does not exist")


def _has(parent: Any, step: str | int) -> bool:
    if isinstance(step, int):
        return isinstance(parent, list) and step < len(parent)
    return isinstance(parent, dict) and step in parent


def _steps(path: str) -> list[str | int]:
    return [
        name or (json.loads(quoted) if quoted else int(index))
        for name, quoted, index in _STEP.findall(path)
    ]


def _values(payload: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the JSON of each leaf. An empty object or list is a leaf.

    Raises `ActionError` for a path beyond `PATH_LIMIT`.
    """
    # This loop does not use recursion, because an unknown publisher's payload may exceed Python's
    # limit.
    left: list[tuple[str, Any]] = [(ROOT, payload)]
    while left:
        path, value = left.pop()
        if len(path) > PATH_LIMIT:
            raise ActionError(f"{text(path)}…: the path has more than {PATH_LIMIT} characters")
        children: list[tuple[str, Any]] = []
        if isinstance(value, Mapping):
            children = [(path + _field(name), child) for name, child in value.items()]
        elif isinstance(value, list):
            children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
        if not children:
            yield path, json.dumps(value, ensure_ascii=False)
        left += reversed(children)


def _field(name: str) -> str:
    return f".{name}" if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"[{json.dumps(name)}]"
