"""A log line is one JSON object for any record."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from eventbus.errors import Transient
from eventbus.telemetry.logs import JsonLine, _Lines

LOG = logging.getLogger("tests.lines")

CONCURRENT = """
import logging
from threading import Thread
from eventbus.telemetry.logs import configure_logging

def write(thread):
    for number in range(200):
        filler = "x" * (number % 2 * 3800)
        logging.info("tea", extra={"writer": thread, "number": number, "filler": filler})

configure_logging("INFO")
threads = [Thread(target=write, args=(thread,)) for thread in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def line(message: object, *args: object, exc_info: Any = None, **extra: object) -> dict[str, Any]:
    """Return the fields of the line of a record."""
    record = LOG.makeRecord(
        LOG.name, logging.INFO, __file__, 1, message, args, exc_info, None, extra
    )
    text = JsonLine().format(record)
    assert "\n" not in text
    fields: dict[str, Any] = json.loads(text)
    return fields


def test_a_line_has_the_message_and_its_fields() -> None:
    number = UUID("0197f0c4-5d6e-7a8b-9c0d-1e2f3a4b5c6d")

    fields = line("%s events", 3, order_id=number, seconds=1.5, trace_id=None)

    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "INFO",
        "logger": "tests.lines",
        "message": "3 events",
        "order_id": str(number),
        "seconds": 1.5,
        "trace_id": None,
    }


def test_a_line_has_the_traceback_of_an_error() -> None:
    try:
        {}["tea"]
    except KeyError:
        fields = line("failed", exc_info=sys.exc_info())

    # The location and not the key, which can be a customer's.
    assert re.search(
        r"KeyError: raised in runtime/test_log_lines.py:\d+, test_", fields["exc_info"]
    )
    assert fields["exc_info"].startswith("Traceback (most recent call last):")


def test_a_traceback_has_each_cause_and_no_value() -> None:
    try:
        try:
            int("ada@example.com")
        except ValueError as error:
            raise Transient("the shelf is locked") from error
    except Transient:
        fields = line("failed", exc_info=sys.exc_info())

    first, _, second = fields["exc_info"].partition("\n\n")
    assert "\nValueError: raised in runtime/" in first
    assert second.endswith("\nTransient: the shelf is locked")
    assert '"ada@example.com"' in first, "the source is shown, the value is not"
    assert fields["exc_info"].count("ada@example.com") == 1


def test_invalid_text_does_not_lose_a_line() -> None:
    assert line("read %s", "a\udcff")["message"] == "read a\udcff"
    assert line("read", path="a\udcff", keys={(1, 2): 3}.keys())["path"] == "a\udcff"


def test_lines_of_concurrent_threads_are_whole() -> None:
    # Given a process whose threads log lines of up to 4000 bytes to one pipe
    done = subprocess.run(
        [sys.executable, "-c", CONCURRENT],
        cwd=Path(__file__).parents[3],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )

    # Then each line arrives once, and whole
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert sorted((line["writer"], line["number"]) for line in lines) == [
        (thread, number) for thread in range(8) for number in range(200)
    ]


def test_a_record_is_logged_to_a_stream_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    handler = _Lines(sys.stdout)
    handler.setFormatter(JsonLine())

    handler.handle(LOG.makeRecord(LOG.name, logging.INFO, __file__, 1, "tea", (), None))

    assert json.loads(capsys.readouterr().out)["message"] == "tea"
