"""Importing a module opens no connection, starts no thread and reads no setting."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PACKAGES = (
    "common",
    "celeryconfig",
    "order_app",
    "inventory_worker",
    "notification_worker",
    "fraud_worker",
    "analytics_worker",
    "span_store",
    "scheduler",
    "console",
    "contracts",
    "deploy",
)
FILES = [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]

#: Alembic runs env.py and Python runs __main__.py; neither is imported.
RUN = {"env.py", "__main__.py"}

#: The module that reads settings, and `make up`, which passes its environment on to programs.
READERS = {
    "eventbus/settings/base.py",
    "deploy/local/sample.py",
    "deploy/local/processes/supervision.py",
}

#: Imports each module in its own fork, without any other module of this project. Third-party
#: modules are loaded once before, because loading them takes most of the time.
PROGRAM = """
import importlib, json, os, sys, threading, traceback
from contextlib import suppress

packages, modules = map(json.loads, sys.argv[1:])
opened = []
def audit(event, args):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen"):
        opened.append(f"{event}{args[1:]}")
sys.addaudithook(audit)

def sockets():
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in links if link.startswith("socket:")]

def problems(module):
    try:
        importlib.import_module(module)
    except BaseException:
        return traceback.format_exc()
    return "; ".join(opened + sockets() + [str(t) for t in threading.enumerate()[1:]])

def third_party(module):
    importlib.import_module(module)
    return [name for name in sys.modules if name.split(".")[0] not in packages]

def in_a_fork(function, module):
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer:
            json.dump(function(module), answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        result = json.load(answer)
    os.wait()
    return result

for entry in ("order_app.app", "order_app.worker", "console.orderctl", "deploy.local.stack"):
    for name in in_a_fork(third_party, entry):
        # Some names in sys.modules cannot be imported.
        with suppress(Exception):
            importlib.import_module(name)
print(json.dumps({module: in_a_fork(problems, module) for module in modules}))
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_importing_a_module_alone_opens_nothing() -> None:
    # Given all modules that are meant to be imported
    modules = [module_name(path) for path in FILES if path.name not in RUN]

    # When each is imported without any environment
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(PACKAGES), json.dumps(modules)],
        cwd=REPOSITORY,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    # Then no import fails, or opens or starts anything
    assert done.returncode == 0, done.stderr
    problems_by_module = json.loads(done.stdout)
    assert set(problems_by_module) == set(modules)
    assert {module: problem for module, problem in problems_by_module.items() if problem} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_settings_read_the_environment(path: Path) -> None:
    # Given the source of the module
    tree = ast.parse(path.read_text())

    # When it is searched for names of the environment
    attributes = [
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "os"
    ]
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    ]

    # Then only the listed modules use one
    readers = {"environ", "environb", "getenv", "getenvb"}
    if str(path.relative_to(REPOSITORY)) not in READERS:
        assert not readers & {*attributes, *imported}


def test_the_api_can_be_imported_without_its_metrics_directory(
    tmp_path: Path,
) -> None:
    # Given a directory that does not exist
    directory = tmp_path / "not-there-yet"

    # When the API is imported
    done = subprocess.run(
        [sys.executable, "-c", "import order_app.app"],
        cwd=REPOSITORY,
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )

    # Then the import succeeds and creates no directory
    assert done.returncode == 0, done.stderr
    assert not directory.exists()
