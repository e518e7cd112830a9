"""The installation installs only what is missing."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from deploy.local import REPOSITORY

PARTS = ("python", "broker", "database")

#: Programs that the script calls besides those of a test.
PROGRAMS = (
    *("bash", "cat", "chmod", "cut", "dirname", "env", "grep", "id", "mktemp", "rm", "sh"),
    *("sha256sum", "tail", "true"),
)

#: Stands for apt-get: it records the exit status with which Debian's packages start no service.
APT_GET = """#!/bin/sh
"$POLICY_FILE"
echo $? >>"$0.policy"
"""

SUDO = """#!/bin/sh
shift
exec "$@"
"""

DEAD = "#!/bin/sh\nkill -0 999999999 2>/dev/null && exit 101\nexit 0\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that requires no package."""
    place = tmp_path / "checkout"
    for file in ("deploy/local/install.sh", "requirements/dev.txt", "requirements/installer.txt"):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).touch()
    shutil.copy(REPOSITORY / "deploy/local/install.sh", place / "deploy/local")
    return place


def install(checkout: Path, *parts: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "deploy/local/install.sh", *parts],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.skipif((REPOSITORY / ".venv").is_symlink(), reason="it is another checkout's")
def test_a_second_installation_changes_nothing() -> None:
    # Given an installation, in which this test runs
    stamp = REPOSITORY / ".venv/.installed"
    before = stamp.stat().st_mtime_ns

    # When it is installed again
    done = install(REPOSITORY, *PARTS)

    # Then it prints no line, as it would for each step
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before


def test_installed_packages_are_compiled() -> None:
    # Given the modules that a worker imports
    code = "import sys, celery.bin.celery, inventory_worker.worker; print(*sys.modules)"
    settings = {"BROKER_USER": "inventory", "BROKER_PASSWORD": "secret"}
    imported = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    # When their packages are searched for files that each start would compile
    packages = {name.partition(".")[0] for name in imported}
    places = [Path(sysconfig.get_path("purelib")) / package for package in packages]
    sources = [source for place in places for source in place.rglob("*.py")]
    compiled = [source for source in sources if Path(cache_from_source(source)).exists()]

    # Then there are none
    assert "sqlalchemy" in packages
    assert compiled == sources


def remove(python: Path) -> None:
    python.unlink()
    python.symlink_to("/nonexistent/python3")


def replace(python: Path) -> None:
    python.unlink()
    python.write_text("#!/bin/sh\necho 3.10\n")
    python.chmod(0o755)


@pytest.mark.parametrize("change", [remove, replace])
def test_an_environment_of_another_python_is_recreated(
    checkout: Path, change: Callable[[Path], None]
) -> None:
    # Given an installation whose Python was removed, or has another version
    first = install(checkout, "python", PYTHON=sys.executable)
    assert "creating .venv" in first.stdout, first
    assert install(checkout, "python", PYTHON=sys.executable).stdout == ""
    python = checkout / ".venv/bin/python"
    change(python)

    # When it is installed again
    again = install(checkout, "python", PYTHON=sys.executable)

    # Then its environment is recreated, with the packages
    assert [line.split(" …")[0].strip() for line in again.stdout.splitlines()] == [
        "creating .venv",
        "installing Python packages",
        "installing the order system",
    ]
    assert subprocess.run([checkout / ".venv/bin/python", "-V"], check=False).returncode == 0


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A directory of programs on a machine without any package."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in PROGRAMS:
        (place / name).symlink_to(str(shutil.which(name)))
    for name, text in (("apt-get", APT_GET), ("sudo", SUDO)):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    return place


@pytest.mark.parametrize("left_behind", [None, DEAD])
def test_no_service_starts_during_an_installation(
    checkout: Path, debian: Path, left_behind: str | None
) -> None:
    # Given the policy of a run that was killed, or none
    policy = debian.parent / "policy-rc.d"
    if left_behind:
        policy.write_text(left_behind)

    # When a package is installed
    done = install(checkout, "golang", PATH=str(debian), POLICY_FILE=str(policy))

    # Then the policy forbids its services to start, and ends with the run
    assert done.returncode == 0, done
    assert (debian / "apt-get.policy").read_text() == "101\n"
    assert not policy.exists()


def test_the_policy_of_the_machine_is_kept(checkout: Path, debian: Path) -> None:
    # Given a policy that this project has not written
    policy = debian.parent / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 104\n")
    policy.chmod(0o755)

    # When a package is installed
    done = install(checkout, "golang", PATH=str(debian), POLICY_FILE=str(policy))

    # Then it stays in force
    assert done.returncode == 0, done
    assert (debian / "apt-get.policy").read_text() == "104\n"
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"
