"""`orderctl analytics replay` on a real stream and database."""

import json

import pytest
from click.testing import CliRunner

from analytics_worker.stream_reader import Reader
from console.orderctl import main
from console.settings import ReplaySettings, load_operator
from eventbus.database import db
from testkit.data.projections import CONFIRMED, count, order, publish, read_until
from testkit.servers.databases import service_url
from testkit.servers.vhosts import Vhost


def test_orderctl_replays_the_stream_and_reports_the_result(
    broker: Vhost, migrated_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a replay before the reader has read anything, and then a reader with two events
    runner = CliRunner()
    command = ["analytics", "replay", "--from", "first"]
    rejected = runner.invoke(main, command, env=migrated_env)
    for name, value in migrated_env.items():
        monkeypatch.setenv(name, value)
    settings = load_operator(ReplaySettings)
    engine = db.create_engine(service_url(settings, "analytics"))
    reader = Reader(db.sessions(engine), broker.connect)
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(db.sessions(engine), "inbox") == 2)
    reader.close()
    engine.dispose()

    # When the stream is replayed
    text = runner.invoke(main, command, env=migrated_env)
    document = runner.invoke(main, [*command, "--json"], env=migrated_env)

    # Then the first replay is rejected, and the others report two events
    assert rejected.exit_code == 1
    assert "nothing to replay: the reader has not read anything yet" in rejected.stderr
    assert "everything rebuilt from 2 events, offsets 0 to 1" in text.stdout
    assert json.loads(document.stdout)["events"] == 2


@pytest.mark.parametrize("start", ["yesterday", "-1", "12:30"])
def test_an_invalid_start_is_rejected(start: str, operator_env: dict[str, str]) -> None:
    command = ["analytics", "replay", f"--from={start}"]

    result = CliRunner().invoke(main, command, env=operator_env)

    assert result.exit_code == 64
    assert "is not `first`, an offset, or a time" in result.stderr
