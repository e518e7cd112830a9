"""A health file is valid only if it was touched recently, even if the clock has stepped back."""

import os
import shutil
import time
from pathlib import Path

import pytest

from deploy.local.processes.health import HEARTBEAT, beats, remark
from eventbus.health_file import HealthFile


@pytest.mark.parametrize(
    ("age", "healthy"),
    [(0, True), (HEARTBEAT / 2, True), (2 * HEARTBEAT, False), (-3_600, False)],
    ids=["fresh", "young", "old", "from before the clock stepped back"],
)
def test_a_health_file_is_valid_only_if_it_is_recent(
    tmp_path: Path, age: float, healthy: bool
) -> None:
    file = tmp_path / "health"
    file.touch()
    moment = time.time() - age
    os.utime(file, (moment, moment))

    assert (beats(file)() is None) == healthy


@pytest.mark.parametrize(
    ("text", "problem", "remarked"),
    [
        ("", None, None),
        ("ready\n", None, None),
        ("ready, paused by an operator\n", None, "paused by an operator"),
        ("ready, paused after failures\n", None, "paused after failures"),
        ("not connected to the broker\n", "not connected to the broker", None),
    ],
    ids=["empty", "ready", "paused by an operator", "paused after failures", "not connected"],
)
def test_a_worker_that_an_operator_has_paused_is_healthy(
    tmp_path: Path, text: str, problem: str | None, remarked: str | None
) -> None:
    file = tmp_path / "health"
    file.write_text(text)

    assert (beats(file)(), remark(file)) == (problem, remarked)


def test_a_full_disk_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Given a health file that cannot be written
    directory = tmp_path / "health"
    directory.write_text("not a directory")
    file = HealthFile(directory / "process")

    # When it is written again and again, also after it could be written in between
    for _ in range(3):
        file.write("ready")
    directory.unlink()
    file.write("ready")
    shutil.rmtree(directory)
    directory.write_text("not a directory")
    file.write("ready")

    # Then each series of failures has one line
    assert [record.message for record in caplog.records] == ["health file not written"] * 2
