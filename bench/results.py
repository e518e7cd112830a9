"""bench/results.json: the last figures of each part, with the date of the part."""

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
    """Return the content of the file, empty if it is missing; raises `Problem` if it is invalid."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Problem(f"{path} is not JSON ({error}); delete it") from None
    if not isinstance(content, dict):
        raise Problem(f"{path} is not a JSON object; delete it")
    return dict(content)


def record(
    part: str, measured: Mapping[str, Any], how: Mapping[str, Any], path: Path = RESULTS
) -> Results:
    """Replace the figures of a part in the file, and return the new content.

    `how` contains the options of the measurement. The figures of other parts remain.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    earlier = read(path)
    parts = {**earlier.get("parts", {}), part: {"date": now, **how}}
    content: Results = {**earlier, **measured}
    content |= {"date": now, "machine": machine(), "versions": versions(), "parts": parts}
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.rename(path)
    return content


def machine() -> dict[str, Any]:
    """Return the properties of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the servers, libraries and tools."""
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
    output = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return output.split()[1] if len(output.split()) > 1 else "unknown"
