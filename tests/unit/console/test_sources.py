"""The connections of the overview are kept open between samples, and closed at the end."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from common.http import closing
from console.broker.management import Management
from console.monitoring.prometheus import Prometheus
from console.settings import ConsoleSettings
from console.web.app import create_app
from console.web.overview import sources
from console.web.overview.live import Live
from tests.support.unreachable_servers import SETTINGS


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Management | Prometheus]:
    """The sessions that are opened."""
    found = list[Management | Prometheus]()

    def counted(kind: type[Any]) -> Any:
        def create(*arguments: Any) -> Management | Prometheus:
            session: Management | Prometheus = kind(*arguments)
            found.append(session)
            return session

        return create

    monkeypatch.setattr(sources, "Management", counted(Management))
    monkeypatch.setattr(sources, "Prometheus", counted(Prometheus))
    return found


@pytest.fixture
def app(opened: list[Management | Prometheus]) -> Iterator[Flask]:
    """A web console while all servers are down, after two samples of its overview."""
    settings = ConsoleSettings(**SETTINGS, prometheus_url="http://127.0.0.1:9")
    created = create_app(settings)
    live: Live = created.extensions["live"]
    for _ in range(2):
        live.expire()
        live.view()
    yield created
    closing.end(created)


def test_samples_share_their_sessions(app: Flask, opened: list[Management | Prometheus]) -> None:
    assert sorted(type(session).__name__ for session in opened) == ["Management", "Prometheus"]
    assert not any(session._client.is_closed for session in opened)


def test_the_sessions_are_closed_with_the_server(
    app: Flask, opened: list[Management | Prometheus]
) -> None:
    closing.end(app)
    closing.end(app)

    assert all(session._client.is_closed for session in opened)


def test_the_sessions_of_a_deleted_app_are_closed(opened: list[Management | Prometheus]) -> None:
    created = create_app(ConsoleSettings(**SETTINGS))
    live: Live = created.extensions["live"]
    live.view()

    del created, live
    gc.collect()

    assert all(session._client.is_closed for session in opened)
    assert opened
