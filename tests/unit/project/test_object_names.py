"""The names of exchanges, queues and users are unique, and only the topology contains them."""

import ast
import re
from collections import Counter
from pathlib import Path

from common.kombu_topology import SERVICES
from eventbus.topology.objects import Topology

REPOSITORY = Path(__file__).parents[3]

PACKAGES = [service.package for service in SERVICES]

SOURCES = (
    "eventbus",
    "common",
    "celeryconfig",
    "monitor",
    "scheduler",
    "console",
    "deploy",
    *PACKAGES,
)


def test_the_names_of_objects_are_unique(shop: Topology) -> None:
    for kind in (shop.exchanges, shop.queues, shop.users):
        assert max(Counter(thing.name for thing in kind).values()) == 1
    assert len(set(shop.bindings)) == len(shop.bindings)


def test_only_the_topology_contains_names_of_objects(shop: Topology) -> None:
    # Given the names of all objects
    objects = {thing.name for thing in (*shop.exchanges, *shop.queues)}
    names = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, sorted(objects)))})(?![\w.])")
    suffixes = re.compile(r"\.(queue|dlq|retry|overflow|spare|relay|mailer|reader)(\.|$)")

    # When the sources are searched for them
    occurrences = [
        f"{path.relative_to(REPOSITORY)}: {literal!r}"
        for package in SOURCES
        for path in (REPOSITORY / package).rglob("*.py")
        if path.name != "kombu_topology.py" and path.parent.name != "topology"
        for literal in literals(path)
        if names.search(literal) or suffixes.search(literal)
    ]

    # Then only the topology contains one
    assert occurrences == []


def literals(path: Path) -> list[str]:
    """Return the string literals of a module, without docstrings and imports."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]
