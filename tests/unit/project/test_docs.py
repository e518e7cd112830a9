"""Links, files, commands and functions that the documents name exist."""

import ast
import re
from pathlib import Path

import click
import pytest

from console.orderctl import main as orderctl
from deploy.local import REPOSITORY
from tests.support.documents import documents, files, path_of_an_order, prose, quoted, text

#: Suffixes of other files that refer to documents.
NAMING = (".py", ".yml", ".yaml", ".html", ".sh", ".toml", ".cfg", ".j2")


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_relative_link_has_a_target(document: Path) -> None:
    # Given the relative links of the document
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]

    # Then each target exists
    for target in local:
        name, _, anchor = target.partition("#")
        path = (REPOSITORY / document).parent / name if name else REPOSITORY / document
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.relative_to(REPOSITORY)), target


def test_every_document_that_another_file_names_exists() -> None:
    for file in files(*NAMING):
        # When the file is searched for names of documents
        named = re.findall(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", text(file))

        # Then each document and each anchor exists
        for name, anchor in named:
            document = Path("docs") / name
            assert (REPOSITORY / document).exists(), f"{file}: {document}"
            assert not anchor or anchor in anchors(document), f"{file}: {document}#{anchor}"


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    # Given the targets of the Makefile, and the code in the document
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.MULTILINE))
    in_code = re.findall(r"`[^`\n]*`|^```.*?^```$", text(document), re.MULTILINE | re.DOTALL)

    # When the code is searched for make
    named = {name for code in in_code for name in re.findall(r"\bmake (?:-s )?([a-z-]+)", code)}

    # Then each named target exists
    assert named <= targets


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    # Given the paths in the document
    top_level = {path.name for path in REPOSITORY.iterdir() if path.name[0] != "."}
    words = [word for code in quoted(prose(document)) for word in code.split()]
    # Paths in .gitignore are generated and may be missing.
    written = [line for line in text(".gitignore").splitlines() if "/" in line.rstrip("/")]
    paths = [
        word
        for word in words
        if "/" in word
        and word.split("/")[0] in top_level
        and not any(f"{word}/".startswith(directory) for directory in written)
    ]

    # Then each of them exists
    for path in paths:
        assert (REPOSITORY / path).exists() or (REPOSITORY / document.parent / path).exists(), path


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_orderctl_command_that_a_document_names_exists(document: Path) -> None:
    for line in re.findall(r"\borderctl ([a-z][^`\n]*)", text(document)):
        # With no other command on its line, unless the shell separates them
        assert "orderctl" not in line.split("#")[0] or "; " in line or "|" in line, line
        # Given a command up to its comment or to the end of the sentence
        words = re.match(r"(?:[a-z-]+(?: |$|(?=[;:,.)])))+", line)
        assert words, line
        command: click.Command = orderctl

        # When it is followed through the groups
        for word in words[0].split():
            if not isinstance(command, click.Group) or word.startswith("-"):
                break
            subcommand = command.commands.get(word)
            assert subcommand is not None, f"orderctl {line}"
            command = subcommand

        # Then the command and its options exist
        options = {name for parameter in command.params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line.split("#")[0])) <= options | {"--help"}, line


def test_the_path_of_an_order_names_existing_functions() -> None:
    steps = path_of_an_order()
    assert steps

    for path, name in steps:
        assert name in _definitions(REPOSITORY / path), f"{path} has no {name}"


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


@pytest.mark.parametrize("document", documents(), ids=str)
def test_every_code_block_is_closed_and_every_diagram_has_a_kind(document: Path) -> None:
    # Given the code blocks of the document
    fences = re.findall(r"^```(\w*)$", text(document), flags=re.MULTILINE)
    diagrams = re.findall(r"^```mermaid\n(\w+)", text(document), flags=re.MULTILINE)

    # Then each is closed, and each diagram has a supported kind
    assert len(fences) % 2 == 0
    assert not any(fences[1::2]), "a block begins inside another"
    assert len(diagrams) == fences.count("mermaid")
    assert set(diagrams) <= {"flowchart", "sequenceDiagram", "stateDiagram"}
