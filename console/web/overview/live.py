"""The overview as all its viewers see it: sampled and rendered once, and streamed to them."""

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask
from markupsafe import Markup

from common.http import closing
from common.http.streams import Message, Streams
from common.kombu_topology import EVENTS
from console.actions import figures
from console.settings import ConsoleSettings
from console.web import sparkline
from console.web.overview import map as topology_map
from console.web.overview import snapshot
from console.web.overview.snapshot import Snapshot
from console.web.overview.sources import Sources
from console.web.queries import Latest, Queries

log = logging.getLogger(__name__)

#: Seconds between two samples, and the age at which a sample has expired. RabbitMQ and Prometheus
#: renew their figures every 5 seconds.
INTERVAL = 3.0

#: The sections of the page, each a template. They are the same for every viewer.
PARTS = ("headline", "map", "orders", "figures", "services")


@dataclass(frozen=True, kw_only=True)
class View:
    """A sample, and the sections of the page that show it, by name."""

    snapshot: Snapshot
    parts: Mapping[str, Markup]


@dataclass(eq=False)
class Live:
    """The overview of one process."""

    app: Flask
    settings: ConsoleSettings
    queries: Queries
    streams: Streams = field(init=False)
    _sources: Sources = field(init=False)
    _latest: Latest[View] = field(default_factory=lambda: Latest(INTERVAL))
    _sampler: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Sample nothing before the first viewer."""
        self.streams = Streams(opened=self._start)
        self.streams.install(self.app)
        self._sources = Sources(self.settings)
        closing.at_end(self.app, self._sources.close)

    def view(self) -> View:
        """Return the latest sample, or a new one if it is older than `INTERVAL`."""
        return self._latest.get(self._sample)

    def expire(self) -> None:
        """Take a new sample for the next viewer, because an operator has changed something."""
        self._latest.expire()

    def _sample(self) -> View:
        taken = snapshot.take(self.settings, self._sources, self.queries)
        return View(snapshot=taken, parts=self._rendered(taken))

    def _rendered(self, taken: Snapshot) -> dict[str, Markup]:
        # There is no request, so addresses are built from the routes.
        urls = self.app.url_map.bind("console")

        def address(endpoint: str, **values: Any) -> str:
            return urls.build(endpoint, values)

        lately = taken.lately
        values = {
            "now": taken,
            "address": address,
            "maps": {
                "wide": topology_map.wide(taken.rows, EVENTS.name, address),
                "narrow": topology_map.narrow(taken.rows, EVENTS.name, address),
            },
            "drawings": [sparkline.draw(figure) for figure in lately.figures] if lately else (),
            "latest": sparkline.latest,
            "minutes": figures.LATELY // 60,
            "span": figures.SPAN // 60,
            "has_prometheus": self.settings.prometheus_url is not None,
        }
        templates = self.app.jinja_env
        # Each template has escaped its values.
        return {
            name: Markup(templates.get_template(f"overview/{name}.html").render(values))  # noqa: S704
            for name in PARTS
        }

    def _start(self) -> None:
        """Start the thread that samples, unless it runs. It ends with the last stream."""
        with self._lock:
            if self._sampler is None:
                self._sampler = threading.Thread(target=self._run, name="sampler", daemon=True)
                self._sampler.start()

    def _run(self) -> None:
        sent: Mapping[str, str] = {}
        while self._is_watched():
            try:
                view = self.view()
                self.streams.send(_message(view, sent))
                sent = view.parts
            except Exception:
                # An exception would end the thread, and the streams would send nothing more.
                log.exception("overview not sampled")
            # The interval starts at the end of the sample, which has then expired before the next
            # message.
            time.sleep(INTERVAL)

    def _is_watched(self) -> bool:
        with self._lock:
            if not len(self.streams):
                # A later stream must not start with an old sample.
                self._sampler = self.streams.latest = None
            return self._sampler is not None


def _message(view: View, sent: Mapping[str, str]) -> Message:
    changed = {name: part for name, part in view.parts.items() if sent.get(name) != part}
    return Message(whole=_event(view, view.parts), change=_event(view, changed))


def _event(view: View, parts: Mapping[str, str]) -> bytes:
    document = {"at": f"{view.snapshot.at:%H:%M:%S}", "parts": parts}
    return f"data: {json.dumps(document)}\n\n".encode()
