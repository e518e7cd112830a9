"""The overview is sampled once for all viewers, and streamed while there are any."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from console.settings import ConsoleSettings
from console.web.app import create_app
from console.web.overview import live
from console.web.overview.live import PARTS, Live
from console.web.overview.snapshot import Snapshot
from testkit.eventually import eventually
from testkit.processes.web_console import PASSWORD
from tests.support.unreachable_servers import SETTINGS
from tests.unit.console.test_overview_map import snapshot

LOGIN = ("operator", PASSWORD)


class Viewer:
    """A stream of the overview: granian's protocol of its request."""

    def __init__(self) -> None:
        self.parts: list[set[str]] = []
        self.disconnect: Callable[[object], None] = print

    def client_disconnect(self) -> "Viewer":
        return self

    def add_done_callback(self, done: Callable[[object], None]) -> None:
        self.disconnect = done

    def response_stream(self, *_: object) -> "Viewer":
        return self

    def send_bytes(self, content: bytes) -> None:
        self.parts.append(set(json.loads(content.removeprefix(b"data: "))["parts"]))


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each sample; every second one differs in a figure of the headline only."""
    taken: list[str] = []

    def take(*_: object) -> object:
        taken.append("sample")
        return snapshot(unavailable={"RabbitMQ": "no response"} if len(taken) % 2 else {})

    monkeypatch.setattr(live.snapshot, "take", take)
    return taken


@pytest.fixture
def overview(samples: list[str]) -> Live:
    """The overview of a console."""
    del samples  # they must be patched
    found: Live = create_app(ConsoleSettings(**SETTINGS)).extensions["live"]
    return found


def test_all_viewers_share_one_sample(overview: Live, samples: list[str]) -> None:
    client = overview.app.test_client()

    pages = [client.get(path, auth=LOGIN).text for path in ["/overview"] * 9 + ["/services/order"]]

    assert len(samples) == 1
    assert all("Some data is unavailable" in page for page in pages[:9])


def test_an_action_of_an_operator_requires_a_new_sample(overview: Live, samples: list[str]) -> None:
    overview.view()

    overview.expire()
    overview.view()

    assert len(samples) == 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, overview: Live) -> Iterator[None]:
    """Sample continuously; no sampler remains after the test."""
    monkeypatch.setattr(live, "INTERVAL", 0.01)
    overview._latest._seconds = 0.0
    yield
    overview.streams.end()


@pytest.mark.usefixtures("quick")
def test_each_message_is_a_new_sample(overview: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given samples that take half of the interval between them
    take = live.snapshot.take

    def take_slowly(*arguments: Any) -> Snapshot:
        time.sleep(0.02)
        return take(*arguments)

    monkeypatch.setattr(live.snapshot, "take", take_slowly)
    monkeypatch.setattr(live, "INTERVAL", 0.04)
    overview._latest._seconds = 0.04

    # When there is a viewer
    viewer = Viewer()
    overview.streams.response().response.begin(viewer, 200, [])  # type: ignore[attr-defined]

    # Then each message contains the change of a new sample
    def received() -> None:
        assert len(viewer.parts) > 4

    eventually(received)
    assert viewer.parts[1:5] == [{"headline"}] * 4


@pytest.mark.usefixtures("quick")
def test_a_stream_receives_all_parts_and_then_changes_until_it_ends(
    overview: Live, samples: list[str]
) -> None:
    # Given two viewers
    first, second = Viewer(), Viewer()
    for viewer in (first, second):
        body = overview.streams.response().response
        body.begin(viewer, 200, [])  # type: ignore[attr-defined]

    # Then each receives every part, and then the part that has changed
    def received() -> None:
        for viewer in (first, second):
            assert viewer.parts[0] == set(PARTS)
            assert viewer.parts[1:3] == [{"headline"}] * 2

    eventually(received)

    # When both disconnect, then no further sample is taken
    for viewer in (first, second):
        viewer.disconnect(None)

    def ended() -> None:
        assert overview._sampler is None

    eventually(ended)
    number = len(samples)
    overview.streams.send(live._message(overview.view(), {}))
    assert len(samples) == number + 1
