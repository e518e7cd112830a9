"""Every command of `orderctl`: its declared effect, the read-only mode, JSON and completion."""

import json
import subprocess
from inspect import signature, unwrap
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner, Result

from console.commands.access import recording
from console.commands.execution import json_document
from console.commands.execution.effect import changes, commands, shows
from console.commands.execution.read_only import ReadOnly
from console.errors import ActionError
from console.orderctl import main
from eventbus.settings.base import SettingsError
from testkit.processes.orderctl import empty_environment_file

COMMANDS = {name: (command, effect) for name, command, effect in commands(main)}

#: The commands that the read-only mode admits. A command in this list must change nothing.
SHOWING = {
    *("audit", "completion", "contracts check", "database plan", "health"),
    *("keys list", "orders list", "orders show", "orders stuck"),
    *("parked discarded", "parked groups", "parked history", "parked list", "parked plans"),
    *("paused", "people list", "reconcile", "restore check"),
    *("stock check", "stock movements", "stock show", "tls show", "topology plan", "trace show"),
}

SHELLS = ("bash", "zsh", "fish")


def run(directory: Path, *arguments: str, **environment: str) -> Result:
    """Run a command that has no settings, so that it cannot connect."""
    file = str(empty_environment_file(directory))
    return CliRunner().invoke(main, arguments, env={"ORDERS_ENV_FILE": file} | environment)


def call(name: str, *, read_only: bool, flag: bool, as_json: bool = False) -> None:
    """Call a command without parsing its arguments, of which only its flags are given."""
    command, effect = COMMANDS[name]
    parameters = {each.name: None for each in command.params if each.name} | {"as_json": as_json}
    if effect.flag:
        parameters[effect.flag] = flag
    root = click.Context(main)
    root.params["read_only"] = read_only
    with click.Context(command, parent=root).scope():
        assert command.callback
        command.callback(**parameters)


def test_a_command_without_a_declared_effect_is_an_error() -> None:
    group = click.Group("group", {"undeclared": click.Command("undeclared", callback=lambda: None)})

    with pytest.raises(RuntimeError, match="orderctl undeclared declares no effect"):
        recording.install(group)


def test_every_recorded_parameter_exists() -> None:
    for name, (command, effect) in COMMANDS.items():
        names = {parameter.name for parameter in command.params}

        recorded = {effect.subject, effect.flag, *effect.details} - {None}
        # Only `set` and `add` have no reason and no reference.
        assert recorded - {"reason", "reference"} <= names, name


def test_the_read_only_mode_refuses_every_other_command() -> None:
    # A flag makes reconcile change something, and makes the others show addresses.
    changing = {name for name, (_, e) in COMMANDS.items() if e.changes and e.flag is None}

    assert changing == set(COMMANDS) - SHOWING
    assert {name for name, (_, e) in COMMANDS.items() if e.changes and e.flag} == {"reconcile"}


@pytest.mark.parametrize("name", sorted(name for name, (_, e) in COMMANDS.items() if e.changes))
def test_a_changing_command_is_refused_before_it_is_recorded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an audit log that must not be opened
    monkeypatch.setattr(recording, "_store", lambda entry: pytest.fail(f"{entry} is stored"))

    # Then the command is refused
    with pytest.raises(ReadOnly, match=f"orderctl {name}.* is refused: --read-only is set"):
        call(name, read_only=True, flag=True)


def test_a_flag_decides_whether_a_command_changes_anything(tmp_path: Path) -> None:
    # When a command that changes something only with a flag is run without it
    shown = run(tmp_path, "--read-only", "reconcile")
    repaired = run(tmp_path, "--read-only", "reconcile", "--repair")

    # Then it starts, and fails for its missing settings
    assert "setting BROKER_ADMIN_URL" in str(shown.exception)
    assert repaired.exit_code == 77
    assert "orderctl reconcile --repair is refused" in repaired.stderr


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_read_only_mode_is_also_a_setting(tmp_path: Path, place: str) -> None:
    file = empty_environment_file(tmp_path)
    if place == "file":
        file.write_text("ORDERCTL_READ_ONLY=1\n")
    environment = {"ORDERCTL_READ_ONLY": "1"} if place == "environment" else {}

    result = CliRunner().invoke(
        main,
        ("resume", "fraud"),
        env={"ORDERS_ENV_FILE": str(file), **environment},
    )

    assert result.exit_code == 77
    assert result.stderr == (
        "Error: orderctl resume is refused: ORDERCTL_READ_ONLY is set. Nothing was changed.\n"
    )


def test_an_unclear_setting_admits_no_change(tmp_path: Path) -> None:
    result = run(tmp_path, "resume", "fraud", ORDERCTL_READ_ONLY="perhaps")

    assert result.exit_code == 1
    assert "setting ORDERCTL_READ_ONLY" in str(result.exception)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_json(name: str) -> None:
    options = [parameter.opts for parameter in COMMANDS[name][0].params]

    assert options.count(["--json"]) == 1


def test_every_document_has_named_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given the commands that have no option of their own, and no settings
    monkeypatch.setenv("ORDERS_ENV_FILE", str(empty_environment_file(tmp_path)))
    declared = {
        name: json_document.fields_of(name, command)
        for name, (command, _) in COMMANDS.items()
        if "as_json" not in signature(unwrap(command.callback or call)).parameters
    }
    assert len(declared) > 30

    for name, fields in declared.items():
        # When one is refused, or fails without its settings
        with pytest.raises((click.ClickException, SettingsError, AssertionError)):
            call(name, read_only=True, flag=True, as_json=True)

        # Then its output is a document with these fields, and nothing else
        document = json.loads(capsys.readouterr().out)
        assert set(document) == {"command", "exit_status", "error", *fields}
        assert document["command"] == name
        assert document["exit_status"] in (1, 77)
        assert document["error"]
        assert not {"lines", "output", "text"} & set(fields), name


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (0, None, None),
        (1, ValueError("wrong"), "ValueError"),
        (1, ActionError("not parked"), "not parked"),
        (2, click.exceptions.Exit(2), None),
        (3, SystemExit(3), None),
        (77, ReadOnly("refused"), "refused"),
    ],
)
def test_a_document_has_what_a_command_reports(
    status: int, error: Exception | None, reason: str | None
) -> None:
    # Given a command that reports a field, and another with its own document
    @click.group()
    def group() -> None:
        pass

    @group.command()
    @changes()
    @json_document.documented("done", "left")
    def act() -> None:
        click.echo("one")
        click.echo("not a result", err=True)
        json_document.report(done=1)
        if error:
            raise error

    @group.command()
    @shows
    @click.option("--json", "as_json", is_flag=True)
    def show(*, as_json: bool) -> None:
        click.echo(as_json)

    json_document.install(group)

    # When it is run with --json
    result = CliRunner().invoke(group, ("act", "--json"))

    # Then it prints one document, also if it fails, and errors remain on stderr
    ending = {"command": "act", "exit_status": status, "error": reason}
    assert json.loads(result.stdout) == ending | {"done": 1, "left": None}
    assert result.exit_code == status
    assert "not a result" in result.stderr
    # And its output without the option, and other commands, are unchanged
    assert CliRunner().invoke(group, ("act",)).stdout == "one\n"
    assert CliRunner().invoke(group, ("show", "--json")).stdout == "True\n"


def test_a_command_without_a_document_is_an_error() -> None:
    @click.group()
    def group() -> None:
        pass

    @group.command()
    @changes()
    def act() -> None:
        pass

    with pytest.raises(RuntimeError, match="orderctl act declares no document"):
        json_document.install(group)


def test_a_field_that_is_not_declared_is_an_error() -> None:
    @click.group()
    def group() -> None:
        pass

    @group.command()
    @changes()
    @json_document.documented("done")
    def act() -> None:
        json_document.report(finished=1)

    json_document.install(group)

    result = CliRunner().invoke(group, ("act", "--json"))

    assert str(result.exception) == "the command declares no field finished"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts_call_orderctl(tmp_path: Path, shell: str) -> None:
    result = run(tmp_path, "completion", shell)

    assert result.exit_code == 0
    assert f"_ORDERCTL_COMPLETE={shell}_complete" in result.stdout


def test_the_script_for_bash_is_valid(tmp_path: Path) -> None:
    script = run(tmp_path, "completion", "bash").stdout

    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "rec", ["reconcile"]),
        (["orders"], "s", ["ship", "show", "stuck"]),
        (["pause"], "f", ["fraud"]),
        (["pause", "fraud"], "--r", ["--reason"]),
        (["--read-only", "completion"], "z", ["zsh"]),
    ],
)
def test_words_are_completed(words: list[str], incomplete: str, expected: list[str]) -> None:
    complete = get_completion_class("bash")
    assert complete

    found = complete(main, {}, "orderctl", "_ORDERCTL_COMPLETE").get_completions(words, incomplete)

    assert [item.value for item in found] == expected
