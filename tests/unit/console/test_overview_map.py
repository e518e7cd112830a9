"""The map of the overview: honest about what is parked, and about what is unknown."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from common.kombu_topology import FRAUD, INVENTORY, SERVICES
from console.actions.waiting import Waiting
from console.web.overview import map as topology_map
from console.web.overview.rows import Row
from console.web.overview.shapes import Drawing, Level
from console.web.overview.snapshot import Snapshot, _unavailable
from console.web.queries import Result
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.outbox.lag import OutboxLag
from eventbus.topology.service import Service

IDLE = Waiting(unsent=OutboxLag(unsent=0, oldest_unsent_seconds=0.0, unroutable=0), relay_pass=None)


def healthy(service: Service) -> Row:
    return Row(
        service=service,
        depth=0,
        consumers=1,
        tiers={"1s": 0, "30s": 0},
        parked=0,
        arriving=1.5,
        handled=1.5,
        published=1.5,
        oldest_seconds=0.0,
        behind_seconds=0.4,
        waiting=IDLE if service.publishes else None,
    )


def snapshot(changed: Row | None = None, **values: object) -> Snapshot:
    rows = [healthy(service) for service in SERVICES]
    if changed:
        rows = [changed if row.service == changed.service else row for row in rows]
    fixed: dict[str, object] = {
        "at": datetime.now(UTC),
        "findings": (),
        "drift": (),
        "unavailable": {},
        "lately": None,
        "pending": None,
    }
    return Snapshot(rows=tuple(rows), **fixed | values)  # type: ignore[arg-type]


def address(endpoint: str, **values: str) -> str:
    return "/".join((endpoint, *values.values()))


def drawn(changed: Row) -> Drawing:
    return topology_map.wide(snapshot(changed).rows, "orders.topic", address)


def test_a_system_without_problems_is_healthy() -> None:
    now = snapshot()

    assert (now.headline, now.level) == ("Healthy", "good")
    assert {box.level for box in drawn(healthy(FRAUD)).boxes} == {Level.GOOD}


@pytest.mark.parametrize(
    ("number", "headline"), [(1, "1 message is parked"), (1200, "1,200 messages are parked")]
)
def test_a_system_with_a_parked_message_is_not_healthy(number: int, headline: str) -> None:
    now = snapshot(replace(healthy(INVENTORY), parked=number))

    assert (now.headline, now.level) == (headline, "bad")


def test_a_system_with_an_unavailable_source_is_not_healthy() -> None:
    now = snapshot(unavailable={"RabbitMQ": "no response"})

    assert (now.headline, now.level) == ("Some data is unavailable", "warn")


def test_every_problem_of_a_database_is_shown() -> None:
    # Given a database of which two queries have failed, for different reasons
    found = {
        "pause": Result[object](problem="no response"),
        "missed": Result[object](problem="no permission"),
        "waiting": Result[object](value=IDLE),
    }

    unavailable = dict(_unavailable(Result(), Result(), {"fraud": found}, ()))

    assert unavailable == {"The database of the fraud service": "no permission; no response"}


def test_an_unknown_figure_is_neither_zero_nor_good() -> None:
    # Given a service of which no source reports anything
    drawing = drawn(Row(service=INVENTORY))

    # Then each of its parts is unknown, in words and by its level
    boxes = [box for box in drawing.boxes if "inventory" in box.link]
    assert {box.level for box in boxes} == {Level.UNKNOWN}
    assert all("unknown" in box.label for box in boxes)
    assert not any(re.search(r"\b0\b|none", box.label) for box in boxes)
    arrows = [each for each in drawing.arrows if "inventory" in each.label]
    assert {(each.rate, each.level) for each in arrows} == {("?/s", Level.UNKNOWN)}


def test_an_arrow_shows_the_rate_and_the_age_of_the_oldest_event() -> None:
    drawing = drawn(replace(healthy(INVENTORY), depth=7, handled=12.0, oldest_seconds=65.0))

    (arrow,) = [each for each in drawing.arrows if each.label.startswith("inventory handles")]
    assert (arrow.rate, arrow.age, arrow.level) == ("12/s", "oldest 1 min 5 s", Level.WARN)


def test_a_paused_service_and_its_retries_are_named() -> None:
    # Given a paused service with a message in a retry tier
    at = datetime.now(UTC)
    pause = OperatorPause(reason="a test", paused_by="ada", paused_at=at, seconds=60.0)
    drawing = drawn(replace(healthy(FRAUD), pause=pause, tiers={"1s": 0, "30s": 2}))

    # Then both are on the map
    labels = {box.label: box.level for box in drawing.boxes if "fraud" in box.link}
    assert labels["fraud worker: paused"] is Level.WARN
    assert labels["Retrying: 30s 2"] is Level.WARN


@pytest.mark.parametrize("layout", [topology_map.wide, topology_map.narrow])
def test_every_part_is_inside_the_drawing_and_none_overlaps(layout: object) -> None:
    drawing: Drawing = layout(snapshot().rows, "orders.topic", address)  # type: ignore[operator]

    boxes = drawing.boxes
    assert all(box.x >= 0 and box.x + box.width <= drawing.width for box in boxes)
    assert all(box.y >= 0 and box.y + box.height <= drawing.height for box in boxes)
    overlaps = [
        (one.title, other.title)
        for number, one in enumerate(boxes)
        for other in boxes[number + 1 :]
        if one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    ]
    assert overlaps == []
