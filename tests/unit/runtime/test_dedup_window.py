"""The deduplication window covers the longest time after which an event can be redelivered."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

import fraud_worker.settings
import inventory_worker.retention
import order_app.retention
from common.kombu_topology import SERVICES
from console.settings import RedriveSettings
from deploy.local.processes.programs import PROGRAMS
from eventbus.settings.base import Settings, SettingsError, load
from eventbus.settings.dedup_window import DedupWindow
from eventbus.topology.retry_schedule import RETRY_TIERS
from notification_worker.settings import MailerSettings

REPOSITORY = Path(__file__).parents[3]

#: The settings of all programs that delete rows of an inbox or redeliver events.
READERS = (
    order_app.retention.RelaySettings,
    inventory_worker.retention.RelaySettings,
    MailerSettings,
    fraud_worker.settings.RelaySettings,
    RedriveSettings,
)

REQUIRED: dict[str, Any] = {
    "broker_user": "some",
    "broker_password": "some",
    "broker_admin_url": "https://127.0.0.1",
    "broker_admin_user": "some",
    "broker_admin_password": "some",
    "broker_ca_file": certifi.where(),
    "database_name": "some",
    "database_user": "some",
    "database_password": "some",
    "database_ca_file": certifi.where(),
    "secrets_dir": "/",
    "mail_from": "shop@example.com",
}

readers = pytest.mark.parametrize("reader", READERS, ids=lambda r: f"{r.__module__}.{r.__name__}")


def read(reader: type[Settings], **settings: Any) -> DedupWindow:
    loaded = load(reader, **REQUIRED, **settings)
    assert isinstance(loaded, DedupWindow)
    return loaded


def refusal(reader: type[Settings], **settings: Any) -> str:
    with pytest.raises(SettingsError) as error:
        read(reader, **settings)
    return str(error.value)


@readers
def test_the_default_window_is_long_enough(reader: type[Settings]) -> None:
    window = read(reader)

    assert window.parked_redrive_days < window.inbox_retention_days


@readers
@pytest.mark.parametrize("source", ["parked_redrive_days", "outbox_retention_days"])
def test_the_error_of_a_short_window_names_both_settings(
    reader: type[Settings], source: str
) -> None:
    # 20 days, a week of downtime, and the retry tiers
    assert read(reader, inbox_retention_days=28, **{source: 20})

    assert refusal(reader, inbox_retention_days=27, **{source: 20}) == (
        f"setting INBOX_RETENTION_DAYS: Value error, must be at least 28: {source.upper()} is 20"
        " days, plus 7.01 days for downtime and RETRY_TIERS"
    )


@readers
def test_the_window_includes_the_retry_tiers(reader: type[Settings]) -> None:
    # Given retry tiers of two days in total
    tiers = (86_400.0, 86_400.0)
    assert sum(RETRY_TIERS) < 86_400

    # Then the window must include them
    assert read(reader, inbox_retention_days=23, retry_tiers=tiers)
    assert "must be at least 23" in refusal(reader, inbox_retention_days=22, retry_tiers=tiers)


@readers
def test_the_window_includes_the_age_of_the_stream(reader: type[Settings]) -> None:
    # Given sources that keep events for a shorter time than the stream
    short = {"parked_redrive_days": 1, "outbox_retention_days": 1}

    # Then the window must include the stream's age
    assert read(reader, inbox_retention_days=22, **short)
    assert refusal(reader, inbox_retention_days=21, **short) == (
        "setting INBOX_RETENTION_DAYS: Value error, must be at least 22: the stream keeps events"
        " for 14 days, plus 7.01 days for downtime and RETRY_TIERS"
    )


def test_a_default_window_is_checked_against_other_settings() -> None:
    assert "must be at least 38" in refusal(MailerSettings, parked_redrive_days=30)


def test_an_invalid_setting_is_reported_in_one_line() -> None:
    message = refusal(MailerSettings, parked_redrive_days="many")

    assert message.count("\n") == 0
    assert message.startswith("setting PARKED_REDRIVE_DAYS: ")


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.name)
def test_a_service_does_not_start_with_a_short_window(
    service: Any,
) -> None:
    # Given the program of the service, and a window that is too short
    (program,) = (
        p for p in PROGRAMS if f"-A {service.package}." in p.command and ".worker " not in p.command
    )
    environment = {name.upper(): str(value) for name, value in REQUIRED.items()}
    environment |= {"INBOX_RETENTION_DAYS": "14", "PATH": ""}

    # When it is started
    python, *arguments = program.command.split()
    assert python == "python"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    # Then it ends with one line that names both settings
    assert done.returncode != 0
    assert re.fullmatch(
        "setting INBOX_RETENTION_DAYS: .* PARKED_REDRIVE_DAYS is 14 days, .*\n", done.stderr
    )
