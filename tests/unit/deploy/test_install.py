"""An installation does not repeat steps that are done."""

import subprocess

import pytest

from deploy.local import REPOSITORY

PARTS = ("python", "broker", "database")


@pytest.mark.skipif((REPOSITORY / ".venv").is_symlink(), reason="it is another checkout's")
def test_a_second_installation_changes_nothing() -> None:
    # Given an installation, in which this test runs
    stamp = REPOSITORY / ".venv/.installed"
    before = stamp.stat().st_mtime_ns

    # When it is installed again
    done = subprocess.run(
        [REPOSITORY / "deploy/local/install.sh", *PARTS],
        capture_output=True,
        text=True,
        check=False,
    )

    # Then it prints no line, as it would for each step
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before
