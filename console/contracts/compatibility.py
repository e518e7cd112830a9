"""The compatibility of a contract change: two JSON Schemas are compared by two rules.

New code must decode every event that was ever published. Running consumers must decode the events
of new code, so that services can be deployed in any order. The first rule forbids narrowing the
values of a field, and the second forbids widening them. Adding an optional field is compatible.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from console.contracts.schema import RETIRED, Schema, inlined, kind, without_null

_AT_LEAST = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_AT_MOST = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}

_PUBLISHED = "published events may be invalid"
_RUNNING = "running consumers may reject new events"
_BOTH = "published events may be invalid, running consumers may reject new events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between a contract and the released contract, and its consequence."""

    #: The event type, or `envelope`.
    contract: str
    #: The field in the envelope, such as `$.data.lines[].sku`.
    path: str
    change: str
    breaking: bool
    reason: str

    def __str__(self) -> str:
        verdict = "breaking" if self.breaking else "compatible"
        return f"{verdict}: {self.contract} {self.path}: {self.change}: {self.reason}"


def changes(released: Mapping[str, Schema], present: Mapping[str, Schema]) -> list[Change]:
    """Return every change from the released contracts to the current contracts, sorted by name.

    Both map the names of contracts to their schemas.
    """
    found: list[Change] = []
    for name in sorted({*released, *present}):
        at = _Place(name, "$" if name == "envelope" else "$.data")
        if name not in present and (day := released[name].get(RETIRED)):
            reason = f"it was retired on {day}, when it was no longer used"
            found.append(at.compatible("event type removed", reason))
        elif name not in present:
            reason = "its events may still be in outboxes, queues and parking lots"
            found.append(at.breaking("event type removed", reason))
        elif name not in released:
            found.append(at.compatible("event type added", "it was never published or consumed"))
        else:
            found += _compare(at, inlined(released[name]), inlined(present[name]))
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    contract: str
    path: str

    def __truediv__(self, step: str) -> "_Place":
        return _Place(self.contract, self.path + step)

    def breaking(self, change: str, reason: str) -> Change:
        return self._change(change, reason, breaking=True)

    def compatible(self, change: str, reason: str) -> Change:
        return self._change(change, reason, breaking=False)

    def _change(self, change: str, reason: str, *, breaking: bool) -> Change:
        return Change(
            contract=self.contract, path=self.path, change=change, breaking=breaking, reason=reason
        )


def _compare(at: _Place, old: Schema, new: Schema) -> Iterator[Change]:
    (was_nullable, old), (nullable, new) = without_null(old), without_null(new)
    if nullable and not was_nullable:
        yield at.breaking("null allowed", _RUNNING)
    if was_nullable and not nullable:
        yield at.breaking("null no longer allowed", _PUBLISHED)
    if kind(old) != kind(new):
        yield at.breaking(f"type changed from {kind(old)} to {kind(new)}", _BOTH)
        return
    yield from _fields(at, old, new)
    yield from _values(at, old.get("enum"), new.get("enum"))
    for keyword in sorted({*old, *new} - {"type", "enum", "properties", "required", "default"}):
        was, now = old.get(keyword), new.get(keyword)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _compare(at / ("[]" if keyword == "items" else "[*]"), was, now)
        elif was != now:
            yield _limit(at, keyword, was, now)


def _fields(at: _Place, old: Schema, new: Schema) -> Iterator[Change]:
    was, now = old.get("properties", {}), new.get("properties", {})
    for name in {**was, **now}:
        field = at / f".{name}"
        needed_before, needed = (name in schema.get("required", ()) for schema in (old, new))
        if name not in was:
            yield _added(field, required=needed)
        elif name not in now:
            yield _removed(field, required=needed_before)
        else:
            if needed and not needed_before:
                yield field.breaking("required now", "published events may lack it")
            if needed_before and not needed:
                yield field.breaking("optional now", "running consumers require it")
            if not needed and not needed_before and _default(was[name]) != _default(now[name]):
                change = f"default changed from {_default(was[name])} to {_default(now[name])}"
                reason = "the meaning of published events without it would change"
                yield field.breaking(change, reason)
            yield from _compare(field, was[name], now[name])


def _added(field: _Place, *, required: bool) -> Change:
    if required:
        reason = "published events lack it; give it a default"
        return field.breaking("required field added", reason)
    reason = "published events get its default, running consumers ignore it"
    return field.compatible("optional field added", reason)


def _removed(field: _Place, *, required: bool) -> Change:
    if required:
        return field.breaking("required field removed", "running consumers require it")
    reason = "running consumers would use its default instead"
    return field.breaking("optional field removed", reason)


def _values(at: _Place, was: list[Any] | None, now: list[Any] | None) -> Iterator[Change]:
    if (was is None) != (now is None):
        narrowed = was is None
        change = f"any value {'no longer ' * narrowed}allowed"
        yield at.breaking(change, _PUBLISHED if narrowed else _RUNNING)
    elif was is not None and now is not None:
        for value in was:
            if value not in now:
                yield at.breaking(f"value {value!r} removed", _PUBLISHED)
        for value in now:
            if value not in was:
                yield at.breaking(f"value {value!r} added", _RUNNING)


def _limit(at: _Place, keyword: str, was: Any, now: Any) -> Change:
    if keyword not in _AT_LEAST | _AT_MOST:
        return at.breaking(f"{keyword} changed", _BOTH)
    if was is None or now is None:
        narrowed = was is None
    else:
        narrowed = now > was if keyword in _AT_LEAST else now < was
    change = f"{keyword} {'narrowed' if narrowed else 'widened'} from {was} to {now}"
    return at.breaking(change.replace("None", "none"), _PUBLISHED if narrowed else _RUNNING)


def _default(schema: Schema) -> str:
    return repr(schema["default"]) if "default" in schema else "none"
