"""Health checks of processes: a check returns the problem, or None."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg2

from eventbus import tls

Check = Callable[[], str | None]

#: Seconds that a check may take before the process counts as unhealthy.
PATIENCE = 2.0

#: Seconds after which a worker that has not touched its health file counts as unhealthy.
HEARTBEAT = 10.0


def runs() -> str | None:
    """Return no problem, for a process that only the supervisor can judge."""
    return None


def answers(
    url: str, user: str | None = None, password: str = "", *, ca_file: Path | None = None
) -> Check:
    """Return a check that an HTTP server responds with 200; `ca_file` is trusted for HTTPS."""

    def check() -> str | None:
        try:
            auth = httpx.BasicAuth(user, password) if user else None
            trust = tls.http_context(ca_file) if ca_file else False
            response = httpx.get(url, auth=auth, timeout=PATIENCE, trust_env=False, verify=trust)
        except httpx.HTTPError:
            return "does not respond"
        return None if response.status_code == httpx.codes.OK else f"HTTP {response.status_code}"

    return check


def beats(file: Path) -> Check:
    """Return a check that a worker has recently touched its health file, and is ready.

    The file's text is `ready`, possibly with a remark after a comma, or the reason why the worker
    does not work; without text, only the age counts.
    """

    def check() -> str | None:
        try:
            age, state = time.time() - file.stat().st_mtime, file.read_text().strip()
        except FileNotFoundError:
            return "no heartbeat yet"
        # The age counts in either direction: a file with a time in the future was written before
        # the clock was set back, and proves nothing until it is touched again.
        if abs(age) >= HEARTBEAT:
            return f"last heartbeat {age:.0f} s ago"
        return None if state.partition(",")[0] in ("", "ready") else state

    return check


def remark(file: Path) -> str | None:
    """Return the remark in the health file of a healthy worker, such as a pause, or None."""
    try:
        return file.read_text().strip().partition(", ")[2] or None
    except OSError:
        return None


def accepts_connections(port: int, user: str, password: str, *, ca_file: Path) -> Check:
    """Return a check that PostgreSQL accepts this user, over TLS."""

    def check() -> str | None:
        try:
            psycopg2.connect(
                host="127.0.0.1",
                port=port,
                user=user,
                password=password,
                dbname="postgres",
                connect_timeout=int(PATIENCE),
                **tls.database_options(ca_file),
            ).close()
        except psycopg2.OperationalError as error:
            lines = str(error).strip().splitlines()
            return lines[-1].strip() if lines else "does not respond"
        return None

    return check
