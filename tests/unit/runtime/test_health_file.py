"""A health file proves something while it was touched lately, by whichever clock."""

import os
import time
from pathlib import Path

import pytest

from deploy.local.processes.health import HEARTBEAT, beats


@pytest.mark.parametrize(
    ("age", "healthy"),
    [(0, True), (HEARTBEAT / 2, True), (2 * HEARTBEAT, False), (-3_600, False)],
    ids=["fresh", "young", "old", "from before the clock stepped back"],
)
def test_a_file_is_fresh_when_it_was_touched_lately(
    tmp_path: Path, age: float, healthy: bool
) -> None:
    file = tmp_path / "health"
    file.touch()
    moment = time.time() - age
    os.utime(file, (moment, moment))

    assert (beats(file)() is None) == healthy
