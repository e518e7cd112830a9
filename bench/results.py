"""bench/results.json: what was measured last, each part with the day of its own."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deploy.local.problem import Problem

RESULTS = Path(__file__).with_name("results.json")

_PACKAGES = ("celery", "kombu", "SQLAlchemy", "psycopg2-binary", "granian", "gunicorn", "Flask")

Results = dict[str, Any]


def read(path: Path = RESULTS) -> Results:
    """Return what the file holds, nothing if there is none; raises `Problem` if it is broken."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Problem(f"{path} is not JSON ({error}); delete it") from None
    if not isinstance(found, dict):
        raise Problem(f"{path} holds no object; delete it")
    return dict(found)


def record(
    part: str, measured: Mapping[str, Any], how: Mapping[str, Any], path: Path = RESULTS
) -> Results:
    """Put a part's figures in place of its earlier ones, keep those of the others, and write it.

    `how` tells with what options it was measured. Returns all that the file now holds.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    earlier = read(path)
    parts = {**earlier.get("parts", {}), part: {"date": now, **how}}
    found: Results = {**earlier, **measured}
    found |= {"date": now, "machine": machine(), "versions": versions(), "parts": parts}
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(found, indent=2) + "\n")
    unfinished.rename(path)
    return found


def machine() -> dict[str, Any]:
    """Return what this machine is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what does the work."""
    servers = {
        "postgresql": max((p.name for p in Path("/usr/lib/postgresql").glob("*")), default="none"),
        "rabbitmq": max(
            (p.name.partition("-")[2] for p in Path("/usr/lib/rabbitmq/lib").glob("*-*")),
            default="none",
        ),
        "wrk": _wrk(),
    }
    packages = {name: version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **servers, **packages}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _wrk() -> str:
    if not shutil.which("wrk"):
        return "none"
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return said.split()[1] if len(said.split()) > 1 else "unknown"
