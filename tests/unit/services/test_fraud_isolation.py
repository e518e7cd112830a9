"""No other service imports or names the fraud check, although it consumes their events.

Only these parts name the fraud check: the contracts and the topology, as data; the notification
service, which consumes its event; the deployment, which starts it; and the console, which shows
whether its events are sent.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

#: All packages of the project except tests and the fraud check.
PACKAGES = sorted(
    path.parent.name
    for path in ROOT.glob("*/__init__.py")
    if path.parent.name not in ("tests", "testkit", "fraud_worker")
)

#: Packages and files that may name it.
MAY_NAME_IT = {
    "common/events.py",
    "common/kombu_topology.py",
    # Generated from the services.
    "deploy/k8s/base/deploy.yaml",
    "deploy/k8s/base/programs.yaml",
    "deploy/compose/prometheus.yml",
    # The measured CPU time of each program.
    "bench/results.json",
    # Generated from the contracts and the topology.
    "contracts",
}

#: The names of its event, which the notification service consumes.
ITS_EVENT = re.compile(r"FraudSuspected|on_fraud_suspected|fraud\.suspected|looks? like fraud")


def files(package: str) -> Iterator[Path]:
    """Yield the files of a package: code, templates and configuration."""
    for path in sorted((ROOT / package).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and "node_modules" not in path.parts:
            yield path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                # The call may be an import by name.
                yield name


def test_the_packages_of_the_project_are_found() -> None:
    services = {"order_app", "inventory_worker", "notification_worker", "span_store"}
    assert services | {"common", "console", "monitor", "scheduler"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_package_imports_the_fraud_check(package: str) -> None:
    for path in files(package):
        if path.suffix == ".py":
            names = [name for name in imported(path) if name.split(".")[0] == "fraud_worker"]
            assert not names, path


@pytest.mark.parametrize("package", [p for p in PACKAGES if p != "notification_worker"])
def test_only_listed_files_name_the_fraud_check(package: str) -> None:
    for path in files(package):
        name = path.relative_to(ROOT).as_posix()
        if not {package, name} & MAY_NAME_IT:
            text = path.read_bytes().decode(errors="replace")
            assert "fraud" not in f"{name} {text}".lower(), name


def test_the_notification_service_names_only_its_event() -> None:
    for path in files("notification_worker"):
        rest = ITS_EVENT.sub("", path.read_bytes().decode(errors="replace"))
        assert "fraud" not in f"{path.name} {rest}".lower(), path


def test_the_fraud_check_imports_no_other_service() -> None:
    allowed = {"eventbus", "common", "fraud_worker", "celeryconfig"}
    for path in files("fraud_worker"):
        if path.suffix == ".py":
            imports = {name.split(".")[0] for name in imported(path)} & {*PACKAGES, "fraud_worker"}
            assert imports <= allowed, path
