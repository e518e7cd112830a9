"""Event streams: a new viewer receives everything, the others what has changed; all are bounded."""

from collections.abc import Callable

import pytest
from flask import Flask

from common.http import streams
from common.http.requests import Inline, Requests
from common.http.streams import LIFETIME, Message, Streams

FIRST = Message(whole=b"whole 1", change=b"change 1")
SECOND = Message(whole=b"whole 2", change=b"change 2")


class Protocol:
    """granian's protocol of a request whose response is a stream."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.disconnect: Callable[[object], None] = print

    def client_disconnect(self) -> "Protocol":
        return self

    def add_done_callback(self, done: Callable[[object], None]) -> None:
        self.disconnect = done

    def response_stream(self, _status: int, _headers: object) -> "Protocol":
        return self

    def send_bytes(self, content: bytes) -> None:
        self.sent.append(content)


@pytest.fixture
def opened() -> list[str]:
    """One entry for each stream that was opened."""
    return []


@pytest.fixture
def open_streams(opened: list[str]) -> Streams:
    """No streams yet."""
    return Streams(opened=lambda: opened.append("opened"))


def viewer(of: Streams) -> Protocol:
    protocol = Protocol()
    (body,) = [of.response().response]
    body.begin(protocol, 200, [])  # type: ignore[attr-defined]
    return protocol


def test_a_new_stream_receives_the_whole_message_and_later_changes(
    open_streams: Streams, opened: list[str]
) -> None:
    # Given a stream before the first message, and one after it
    early = viewer(open_streams)
    open_streams.send(FIRST)
    late = viewer(open_streams)

    # When another message is sent
    open_streams.send(SECOND)

    # Then each has received one message in full, and then the change
    assert early.sent == late.sent == [b"whole 1", b"change 2"]
    assert opened == ["opened", "opened"]


def test_a_stream_of_a_client_that_disconnects_is_closed(open_streams: Streams) -> None:
    protocol = viewer(open_streams)

    protocol.disconnect(None)
    open_streams.send(FIRST)

    assert (len(open_streams), protocol.sent) == (0, [])


def test_a_stream_is_closed_after_its_lifetime(
    open_streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a stream that is older than its lifetime
    protocol = viewer(open_streams)
    now = streams.time.monotonic() + LIFETIME + 1
    monkeypatch.setattr(streams.time, "monotonic", lambda: now)

    # When a message is sent
    open_streams.send(FIRST)

    # Then the stream is closed: what a stalled client has not read is freed
    assert (len(open_streams), protocol.sent) == (0, [])


def test_a_stream_beyond_the_limit_is_refused(
    open_streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIMIT", 1)
    viewer(open_streams)

    assert open_streams.response().status_code == 503


def test_the_server_ends_the_streams_of_an_app_when_it_stops(open_streams: Streams) -> None:
    # Given an app with an open stream
    app = Flask("streams")
    app.config["MAX_CONTENT_LENGTH"] = 0
    open_streams.install(app)
    protocol = viewer(open_streams)

    # When its server stops
    Requests(Inline(), app, None, None, None).end()

    # Then no message is sent any more, and no stream is opened
    open_streams.send(FIRST)
    assert protocol.sent == []
    assert open_streams.response().status_code == 503
