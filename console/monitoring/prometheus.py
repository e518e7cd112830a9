"""The part of Prometheus's HTTP API that the web console needs."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import HttpUrl

from console.errors import ActionError, first_line
from console.http_session import HttpSession

#: Maximum seconds for each response, which usually takes a few milliseconds.
_TIMEOUT = 2.0

#: The values at each step; None where there was no value.
Values = list[float | None]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert that fires, or will fire if its condition persists."""

    name: str
    summary: str
    is_firing: bool


class Prometheus(HttpSession):
    """A session with the API; every method raises `ActionError` if it does not respond."""

    def __init__(self, url: HttpUrl) -> None:
        self._address = str(url).rstrip("/")
        super().__init__(base_url=f"{self._address}/api/v1", timeout=_TIMEOUT)

    def now(self, expr: str, label: str) -> dict[str, float]:
        """Return the current result of a query: its value for each value of a label."""
        result = self._get("query", query=expr)["result"]
        values = {series["metric"].get(label, ""): float(series["value"][1]) for series in result}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def lately(self, expr: str, *, seconds: int, step: int) -> Values:
        """Return the values of a query for one series, oldest first, at each step until now."""
        # Times are whole steps, so that a figure moves to the left without changing.
        end = int(time.time()) // step * step
        start = end - seconds
        result = self._get("query_range", query=expr, start=start, end=end, step=step)["result"]
        known = {int(at): float(value) for at, value in result[0]["values"]} if result else {}
        steps = [known.get(at, math.nan) for at in range(start, end + 1, step)]
        return [value if math.isfinite(value) else None for value in steps]

    def alerts(self) -> list[Alert]:
        """Return every pending or firing alert, firing alerts first."""
        active = [_alert(alert) for alert in self._get("alerts")["alerts"]]
        return sorted(active, key=lambda alert: (not alert.is_firing, alert.name))

    def _get(self, path: str, **parameters: Any) -> Mapping[str, Any]:
        try:
            answer = self._client.get(path, params=parameters)
            data: Mapping[str, Any] = answer.json()["data"]
        except httpx.HTTPError as error:
            reason = first_line(error)
        except (ValueError, KeyError, TypeError):
            reason = "it is not a Prometheus server"
        else:
            return data
        raise ActionError(f"Prometheus at {self._address} does not respond: {reason}")


def _alert(alert: Mapping[str, Any]) -> Alert:
    return Alert(
        name=alert["labels"]["alertname"],
        summary=alert["annotations"].get("summary", ""),
        is_firing=alert["state"] == "firing",
    )
