"""The lists of settings, ports, log messages, metrics and decisions are complete."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from analytics_worker.retention import ReaderSettings
from console.settings import ConsoleSettings
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from eventbus.settings.service import ServiceSettings
from fraud_worker.settings import RelaySettings as FraudRelaySettings
from fraud_worker.settings import WorkerSettings as FraudWorkerSettings
from monitor.settings import ExporterSettings, FlowerSettings
from notification_worker.settings import MailerSettings
from order_app.retention import RelaySettings
from order_app.settings import ApiSettings
from span_store.settings import SpanStoreSettings
from tests.support.documents import quoted, rows, section, text
from tests.support.operator_settings import OperatorSettings

SOURCES = (
    "common",
    "eventbus",
    "celeryconfig",
    "order_app",
    "inventory_worker",
    "notification_worker",
    "fraud_worker",
    "analytics_worker",
    "span_store",
    "monitor",
    "scheduler",
    "console",
    "contracts",
    "deploy",
)

#: Functions and classes whose first argument is the name of a metric.
_METRIC_TYPES = {
    "Counter",
    "Gauge",
    "Histogram",
    "GaugeMetricFamily",
    "InfoMetricFamily",
    "gauge",
}

#: The settings of all processes and of `orderctl`.
SETTINGS: tuple[type[BaseSettings], ...] = (
    ServiceSettings,
    ApiSettings,
    RelaySettings,
    MailerSettings,
    FraudWorkerSettings,
    FraudRelaySettings,
    ReaderSettings,
    SpanStoreSettings,
    FlowerSettings,
    ExporterSettings,
    OperatorSettings,
    ConsoleSettings,
)


def sources() -> list[Path]:
    return [path for package in SOURCES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_the_document_of_settings_is_complete() -> None:
    # Given the names of all settings
    settings = {name.upper() for reader in SETTINGS for name in reader.model_fields}

    # When the names in the document are collected
    listed = set(re.findall(r"`([A-Z][A-Z_]+)`", text("docs/operations/settings.md")))

    # Then they are the same
    levels = {"DEBUG", "INFO", "WARNING", "ERROR", "NAME", "NAME_FILE"}
    files = {name for name in listed if name.endswith("_FILE") and name[:-5] in settings}
    assert listed - levels - files - {"ORDERS_ENV_FILE"} == {
        name for name in settings if not (name.endswith("_FILE") and name[:-5] in settings)
    }


def test_the_document_of_settings_has_each_default() -> None:
    # Given the fields of all settings
    fields = {n.upper(): f for reader in SETTINGS for n, f in reader.model_fields.items()}

    for row in rows(text("docs/operations/settings.md")):
        for name in quoted(row[0]):
            if name in fields:
                assert row[1].strip("`") == _default(fields[name]), name


def test_every_number_among_the_settings_has_a_lower_and_an_upper_limit() -> None:
    # Given all numbers: one without a limit may disable a timeout, or exceed a protocol's range
    numbers = {
        name.upper(): field.metadata
        for reader in SETTINGS
        for name, field in reader.model_fields.items()
        if field.annotation in {int, float, int | None, float | None}
    }

    # Then each has both limits
    lower = {n for n, limits in numbers.items() if any(isinstance(v, Gt | Ge) for v in limits)}
    upper = {n for n, limits in numbers.items() if any(isinstance(v, Lt | Le) for v in limits)}
    assert numbers.keys() - lower == set()
    assert numbers.keys() - upper == set()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match default := field.default:
        case None | "" | ():
            return "none"
        case bool():
            return str(default).lower()
        case tuple():
            return ",".join(f"{item:g}" if isinstance(item, float) else item for item in default)
        case float():
            return f"{default:g}"
    return str(default)


def test_the_document_of_ports_is_complete() -> None:
    # Given the ports in the document
    listed = {
        variable: int(port)
        for ports, variables, *_ in rows(section("docs/operations/sizes-and-ports.md", "## Ports"))
        for port, variable in zip(ports.split(", "), quoted(variables), strict=False)
    }

    # Then they are those of the code
    assert listed == {
        name.upper(): port for name, port in Ports.model_construct().model_dump().items()
    }


def test_the_document_of_log_messages_is_complete() -> None:
    # Given the messages in the document
    listed = {m for row in rows(text("docs/operations/logs.md")) for m in quoted(row[0])}
    assert listed

    # Then they are those of the code
    assert listed <= {string for path in sources() for string in strings(path)}
    assert {message for path in sources() for message in _log_messages(path)} <= listed


def _log_messages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str(message))],
            ) if level in {"info", "warning", "error", "exception"}:
                # A message with a placeholder cannot be listed.
                yield from () if "%" in message else (message,)


def test_the_document_of_metrics_names_the_file_that_declares_each() -> None:
    # Given the metrics in the document, and the file of each
    listed = {
        (name.removesuffix("_total").removesuffix("_info"), file)
        for name_cell, _, *file_cell, _ in rows(text("docs/operations/metrics.md"))
        for name in quoted(name_cell)
        for file in quoted("".join(file_cell))
    }
    assert listed

    # Then they are those of the code, and of the recording rules
    rules = "deploy/prometheus/alerts.yml"
    declared = {(n, str(p.relative_to(REPOSITORY))) for p in sources() for n in _metrics(p)}
    recorded = re.findall(r"^ *- record: (\w+)$", text(rules), flags=re.MULTILINE)
    assert listed == declared | {(name, rules) for name in recorded}


def _metrics(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id=function), args=[ast.Constant(value=str(name)), *_]) if (
                name.startswith("orders_") and function in _METRIC_TYPES
            ):
                yield name


def test_every_decision_has_its_parts_and_is_listed() -> None:
    decisions = sorted((REPOSITORY / "docs/adr").glob("[0-9]*.md"))
    assert decisions

    for path in decisions:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Revisit when"], path.name
        assert f"]({path.name})" in text("docs/adr/README.md"), path.name
