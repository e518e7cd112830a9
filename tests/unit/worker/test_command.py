"""The command of Celery's processes, without the plugins of the `celery` command."""

import subprocess
import sys

from click.testing import CliRunner

from eventbus.command import main

#: Packages with commands for `celery`, and what they import.
PLUGINS = ("flower", "tornado", "click_repl", "prompt_toolkit", "celery.bin.celery")


def test_a_process_imports_no_plugin_of_the_celery_command() -> None:
    # When the modules of the command are imported
    code = "import sys, eventbus.command; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # Then no plugin is among them
    assert "celery.bin.worker" in done.stdout.split()
    assert not set(PLUGINS) & set(done.stdout.split())


def test_a_process_requires_an_app() -> None:
    result = CliRunner().invoke(main, ["worker"])

    assert result.exit_code == 2
    assert "Missing option '-A' / '--app'" in result.output
