"""Tables and lines of `orderctl` show untrusted text as it is, and never control the terminal."""

from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from console.actions import trace as traces
from console.commands import stock, trace
from console.commands.table import print_line, print_table
from console.errors import ActionError
from console.orderctl import main
from inventory_worker.movements import Movement
from span_store.models import SpanRow

#: Markup of Rich that is not closed or was not opened, and an emoji.
HOSTILE = "received [/2] [dn-7] [red]x :tea: \\"
#: A sequence that clears the screen, and a line break.
CONTROL = "a\x1b[2Jb\nc"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No databases: the tests provide what they contain."""
    for module in (stock, trace):
        monkeypatch.setattr(module, "load_operator", lambda _: None)


def test_a_table_shows_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("text",), [(HOSTILE,), (CONTROL,), (None,)])

    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["text", HOSTILE, "a [2Jb c", "-"]


def test_a_line_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(CONTROL)

    assert capsys.readouterr().out == "a [2Jb c\n"


@pytest.mark.parametrize("reason", [HOSTILE, CONTROL])
def test_movements_show_the_reason_as_it_was_entered(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a movement whose texts are hostile
    movement = Movement(
        kind="receive",
        on_hand=1,
        reserved=0,
        counted=None,
        moved_at=datetime(2026, 11, 29, tzinfo=UTC),
        reason=reason,
        reference=reason,
        entered_by=reason,
    )
    monkeypatch.setattr(stock.actions, "moved", lambda *_: [movement])

    # When the movements are shown
    shown = CliRunner().invoke(main, ["stock", "movements", "TEA"])

    # Then each text is as it was entered, without characters that control the terminal
    assert shown.exit_code == 0, shown.exception
    expected = HOSTILE if reason == HOSTILE else "a [2Jb c"
    assert shown.stdout.count(expected) == 3
    assert "\x1b" not in shown.stdout


def test_a_trace_shows_texts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a span whose texts are hostile
    span = SpanRow(
        trace_id="t",
        span_id="s",
        parent_id=None,
        service=CONTROL,
        name=HOSTILE,
        started_at=datetime(2026, 11, 29, tzinfo=UTC),
        microseconds=1_000,
        status="error",
        reason=HOSTILE,
        attributes={},
    )
    monkeypatch.setattr(traces, "find", lambda *_: [span])

    # When its trace is shown
    shown = CliRunner().invoke(main, ["trace", "show", "t"])

    # Then each text is as the span has it, without characters that control the terminal
    assert shown.exit_code == 0, shown.exception
    assert shown.stdout.count(HOSTILE) == 2
    assert "a [2Jb c" in shown.stdout


def test_an_error_is_one_line_without_control(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given an error with a foreign text
    def fail(*_: object) -> None:
        raise ActionError(f"queue {CONTROL}: missing")

    monkeypatch.setattr(stock.actions, "moved", fail)

    # When a command fails with it
    result = CliRunner().invoke(main, ["stock", "movements", "TEA"])

    # Then it is one line
    assert result.stderr == "Error: queue a [2Jb c: missing\n"
