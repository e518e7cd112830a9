"""What the documents name exists, and what they list is complete."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from analytics_worker.retention import ReaderSettings
from console.orderctl import main as orderctl
from console.settings import ConsoleSettings, OperatorSettings
from deploy.local.ports import Ports
from eventbus.settings.service import ServiceSettings
from fraud_worker.settings import RelaySettings as FraudRelaySettings
from fraud_worker.settings import WorkerSettings as FraudWorkerSettings
from monitor.settings import ExporterSettings, FlowerSettings
from notification_worker.settings import MailerSettings
from order_app.retention import RelaySettings
from order_app.settings import ApiSettings
from span_store.settings import SpanStoreSettings

ROOT = Path(__file__).parents[3]
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
SKIPPED = {"node_modules", "__pycache__"}

#: Files besides documents that refer to documents.
NAMING = (".py", ".yml", ".yaml", ".html", ".sh", ".toml", ".cfg", ".j2")

#: What is read from the environment, by all processes and by operators.
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


def files(*suffixes: str) -> list[Path]:
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.suffix in suffixes)
    return sorted(
        p for p in found if not any(part in SKIPPED or part[0] == "." for part in p.parts)
    )


def documents() -> list[Path]:
    return files(".md")


def text(document: Path | str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def prose(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text(document), flags=re.MULTILINE | re.DOTALL)


def section(document: str, heading: str) -> str:
    _, _, rest = text(document).partition(f"\n{heading}\n")
    level = heading.split()[0]
    assert rest, f"{document} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(table: str) -> Iterator[list[str]]:
    for line in table.splitlines():
        if line.startswith("|"):
            # A pipe inside a cell is escaped.
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not set("".join(cells)) <= set("-: "):
                yield cells


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sources() -> list[Path]:
    return [path for package in SOURCES for path in sorted((ROOT / package).rglob("*.py"))]


def strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


# --- Links and names ----------------------------------------------------------------------------


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    # given
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]

    # then
    for target in local:
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.relative_to(ROOT)), target


def test_every_document_that_another_file_names_exists() -> None:
    for file in files(*NAMING):
        # when
        named = re.findall(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", text(file))

        # then
        for name, anchor in named:
            document = Path("docs") / name
            assert (ROOT / document).exists(), f"{file}: {document}"
            assert not anchor or anchor in anchors(document), f"{file}: {document}#{anchor}"


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    # given
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.MULTILINE))
    in_code = re.findall(r"`[^`\n]*`|^```.*?^```$", text(document), re.MULTILINE | re.DOTALL)

    # when
    named = {name for code in in_code for name in re.findall(r"\bmake (?:-s )?([a-z-]+)", code)}

    # then
    assert named <= targets


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    # given
    top_level = {path.name for path in ROOT.iterdir() if path.name[0] != "."}
    words = [word for code in quoted(prose(document)) for word in code.split()]
    # What is ignored by its path is written by a command, and need not be there.
    written = [line for line in text(".gitignore").splitlines() if "/" in line.rstrip("/")]
    paths = [
        word
        for word in words
        if "/" in word
        and word.split("/")[0] in top_level
        and not any(f"{word}/".startswith(directory) for directory in written)
    ]

    # then
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / document.parent / path).exists(), path


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_orderctl_command_that_a_document_names_exists(document: Path) -> None:
    for line in re.findall(r"\borderctl ([a-z][^`\n]*)", text(document)):
        # given a command, up to its comment or the end of its sentence
        words = re.match(r"(?:[a-z-]+(?: |$|(?=[;:,.)])))+", line)
        assert words, line
        command: click.Command = orderctl

        # when it is followed through the groups
        for word in words[0].split():
            if not isinstance(command, click.Group):
                break
            found = command.commands.get(word)
            assert found is not None, f"orderctl {line}"
            command = found

        # then it and its options are there
        options = {name for parameter in command.params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line.split("#")[0])) <= options | {"--help"}, line


def test_the_path_of_one_order_names_functions_that_exist() -> None:
    steps = [row[1:] for row in rows(section("README.md", "## The path of one order"))][1:]
    assert steps

    for file, function in steps:
        (path,), (name,) = quoted(file), quoted(function)
        assert name in _definitions(ROOT / path), f"{path} has no {name}"


def _definitions(path: Path) -> set[str]:
    defined: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name):
                defined.add(name)
            case ast.ClassDef(name=name, body=body):
                methods = (member for member in body if isinstance(member, ast.FunctionDef))
                defined |= {name, *(f"{name}.{method.name}" for method in methods)}
            case ast.Assign(targets=[ast.Name(id=name), *_]):
                defined.add(name)
    return defined


# --- Lists --------------------------------------------------------------------------------------


def test_operations_lists_exactly_the_settings_that_there_are() -> None:
    # given
    settings = {name.upper() for reader in SETTINGS for name in reader.model_fields}

    # when
    listed = set(re.findall(r"`([A-Z][A-Z_]+)`", text("docs/operations/settings.md")))

    # then
    levels = {"DEBUG", "INFO", "WARNING", "ERROR", "NAME", "NAME_FILE"}
    files = {name for name in listed if name.endswith("_FILE") and name[:-5] in settings}
    assert listed - levels - files - {"ORDERS_ENV_FILE"} == {
        name for name in settings if not (name.endswith("_FILE") and name[:-5] in settings)
    }


def test_operations_tells_the_default_of_each_setting() -> None:
    # given
    fields = {n.upper(): f for reader in SETTINGS for n, f in reader.model_fields.items()}

    for row in rows(text("docs/operations/settings.md")):
        for name in quoted(row[0]):
            if name in fields:
                assert row[1].strip("`") == _default(fields[name]), name


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


def test_operations_lists_every_port_with_its_default() -> None:
    # given
    listed = {
        variable: int(port)
        for ports, variables, *_ in rows(section("docs/operations/sizes-and-ports.md", "## Ports"))
        for port, variable in zip(ports.split(", "), quoted(variables), strict=False)
    }

    # then
    assert listed == {
        name.upper(): port for name, port in Ports.model_construct().model_dump().items()
    }


def test_operations_lists_every_log_message_and_no_other() -> None:
    # given
    listed = {m for row in rows(text("docs/operations/logs.md")) for m in quoted(row[0])}
    assert listed

    # then
    assert listed <= {string for path in sources() for string in strings(path)}
    assert {message for path in sources() for message in _log_messages(path)} <= listed


def _log_messages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                args=[ast.Constant(value=str(message))],
            ) if level in {"info", "warning", "error", "exception"}:
                # One with a placeholder cannot be listed as it is.
                yield from () if "%" in message else (message,)


def test_every_decision_has_its_parts_and_is_listed() -> None:
    decisions = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert decisions

    for path in decisions:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Revisit when"], path.name
        assert f"]({path.name})" in text("docs/adr/README.md"), path.name


# --- Diagrams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_code_block_is_closed_and_every_diagram_has_a_kind(document: Path) -> None:
    # given
    fences = re.findall(r"^```(\w*)$", text(document), flags=re.MULTILINE)
    diagrams = re.findall(r"^```mermaid\n(\w+)", text(document), flags=re.MULTILINE)

    # then
    assert len(fences) % 2 == 0
    assert not any(fences[1::2]), "a block begins inside another"
    assert len(diagrams) == fences.count("mermaid")
    assert set(diagrams) <= {"flowchart", "sequenceDiagram", "stateDiagram"}
