"""A service is one declaration, from which its deployment and its objects are derived."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

DECLARATION = """
from common.bus import BUS
from eventbus.topology.service import Service

SERVICE = Service(
    name="loyalty",
    package=__package__,
    bus=BUS,
    publishes=(),
    consumes=("order.confirmed",),
    ticks=("relay",),
)
"""

DERIVED = """
import json
from common.kombu_topology import SERVICES, topology
from console.databases.reader_role import TABLES
from deploy.local.ports import Ports
from deploy.local.processes.programs import PROGRAMS

shop = topology()
print(json.dumps({
    "queues": [q.name for q in shop.queues if q.name.startswith("loyalty.")],
    "user": [u.read for u in shop.users if u.name == "loyalty"],
    "programs": {p.name: p.command for p in PROGRAMS if p.user == "loyalty"},
    "ports": [name for name in Ports.model_fields if name.startswith("loyalty")],
    "tables": TABLES["loyalty"],
}))
"""


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The derived objects of a copy of the tree with one more folder and one more line."""
    tree = tmp_path_factory.mktemp("tree")
    for package in ("eventbus", "common", "celeryconfig", "scheduler", "console", "deploy"):
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for declaration in ROOT.glob("*/declaration.py"):
        package = tree / declaration.parent.name
        package.mkdir(exist_ok=True)
        shutil.copytree(
            declaration.parent,
            package,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    (tree / "loyalty_worker").mkdir()
    (tree / "loyalty_worker/__init__.py").touch()
    (tree / "loyalty_worker/declaration.py").write_text(DECLARATION)
    topology = tree / "common/kombu_topology.py"
    before = topology.read_text()
    last = '    "analytics_worker",\n'
    topology.write_text(before.replace(last, last + '    "loyalty_worker",\n'))
    assert topology.read_text() != before
    done = subprocess.run(
        [sys.executable, "-c", DERIVED],
        cwd=tree,
        env={"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    objects: dict[str, Any] = json.loads(done.stdout)
    return objects


def test_a_new_service_gets_its_broker_objects_and_user(derived: dict[str, Any]) -> None:
    assert {"loyalty.queue", "loyalty.dlq", "loyalty.overflow", "loyalty.relay"} <= {
        *derived["queues"]
    }
    (read,) = derived["user"]
    assert r"loyalty\.queue" in read


def test_a_new_service_gets_its_processes_and_ports(derived: dict[str, Any]) -> None:
    start = "python -m eventbus -A loyalty_worker"
    assert derived["programs"] == {
        "loyalty-worker": f"{start}.worker worker -n loyalty@loyalty",
        "loyalty-relay": f"{start}.relay worker -n loyalty-relay@loyalty",
    }
    assert derived["ports"] == ["loyalty_worker_metrics_port", "loyalty_relay_metrics_port"]


def test_the_console_reads_the_tables_of_a_new_service(derived: dict[str, Any]) -> None:
    assert derived["tables"] == ["inbox", "operator_pause", "overflow"]
