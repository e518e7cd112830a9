"""What is installed already is left alone."""

import subprocess

import pytest

from deploy.local import REPOSITORY

PARTS = ("python", "broker", "database")


@pytest.mark.skipif((REPOSITORY / ".venv").is_symlink(), reason="it is another checkout's")
def test_a_second_installation_runs_no_installer() -> None:
    # Given an installation: this test runs in it
    stamp = REPOSITORY / ".venv/.installed"
    before = stamp.stat().st_mtime_ns

    # When it is installed again
    done = subprocess.run(
        [REPOSITORY / "deploy/local/install.sh", *PARTS],
        capture_output=True,
        text=True,
        check=False,
    )

    # Then each thing that it does would have a line
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before
