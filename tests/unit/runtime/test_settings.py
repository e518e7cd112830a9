"""Settings come from the environment or from files. Errors name a setting, never its value."""

from pathlib import Path

import pytest
from kombu.connection import Connection
from pydantic import ValidationError
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from console.certificates.certificate_authority import Authority
from eventbus import tls
from eventbus.database import db
from eventbus.settings.base import Settings, SettingsError, load
from eventbus.settings.broker import BrokerSettings, broker_url
from eventbus.settings.outbox import OutboxSettings
from eventbus.settings.service import ServiceSettings
from eventbus.topology.retry_schedule import RETRY_TIERS

SECRET = "s3cr3t-hunter2"
REQUIRED = {
    "BROKER_USER": "order",
    "BROKER_PASSWORD": SECRET,
    "DATABASE_NAME": "orders",
    "DATABASE_USER": "order",
    "DATABASE_PASSWORD": SECRET,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with only the required settings."""
    authority = Authority(tmp_path / "tls")
    list(authority.init())
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    for name in ("BROKER_CA_FILE", "DATABASE_CA_FILE"):
        monkeypatch.setenv(name, str(authority.certificate_file))
    return monkeypatch


def test_the_required_settings_are_enough(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)

    assert settings.broker_user == "order"
    assert settings.broker_password.get_secret_value() == SECRET
    assert (settings.broker_host, settings.broker_port) == ("127.0.0.1", 5671)
    assert settings.retry_tiers == RETRY_TIERS
    assert settings.log_level == "INFO"
    assert settings.health_file is None


def test_every_missing_setting_is_named_at_once(environment: pytest.MonkeyPatch) -> None:
    # Given two settings are missing
    environment.delenv("BROKER_USER")
    environment.delenv("DATABASE_PASSWORD")

    # When the settings are loaded
    with pytest.raises(SettingsError) as error:
        load(ServiceSettings)

    # Then each has a line
    lines = str(error.value).splitlines()
    assert lines == [
        "setting DATABASE_PASSWORD: Field required",
        "setting BROKER_USER: Field required",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_PORT", "s3cr3t-hunter2"),
        ("BROKER_PORT", "0"),
        ("BROKER_HOST", "one,,two"),
        ("BROKER_HOST", "one:65536"),
        ("BROKER_HOST", f"user:{SECRET}@one"),
        ("DATABASE_HOST", "one two"),
        ("DATABASE_PORT", "65536"),
        ("BROKER_HEARTBEAT", "4"),
        ("BROKER_HEARTBEAT", "70000"),
        ("DATABASE_STATEMENT_TIMEOUT", "0"),
        ("DATABASE_STATEMENT_TIMEOUT", "0.0004"),
        ("DATABASE_STATEMENT_TIMEOUT", "inf"),
        ("DATABASE_STATEMENT_TIMEOUT", "3000000"),
        ("DATABASE_LOCK_TIMEOUT", "-1"),
        ("DATABASE_LOCK_TIMEOUT", "0.0004"),
        ("LOG_LEVEL", "CHATTY"),
        ("RETRY_TIERS", "1,s3cr3t-hunter2"),
        ("RETRY_TIERS", "1,0"),
        ("RETRY_TIERS", "-1"),
        ("RETRY_TIERS", "0.0004"),
        ("RETRY_TIERS", "5000000"),
        ("RETRY_TIERS", "inf"),
        ("RETRY_TIERS", "nan"),
    ],
)
def test_an_invalid_setting_is_named_and_its_value_is_not_shown(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    # Given a setting with an invalid value
    environment.setenv(name, value)

    # When the settings are loaded
    with pytest.raises(SettingsError) as error:
        load(ServiceSettings)

    # Then the error names the setting and not the value
    assert str(error.value).startswith(f"setting {name}: ")
    assert SECRET not in str(error.value)
    # The value is not in the cause either, so no traceback can print it.
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("part", "parts", "error"),
    [
        ("0", "0", "setting RELAY_PARTS: "),
        ("0", "65", "setting RELAY_PARTS: "),
        ("-1", "2", "setting RELAY_PART: "),
        ("2", "2", "setting RELAY_PART: Value error, must be less than RELAY_PARTS=2"),
        ("1", "1", "setting RELAY_PART: "),
    ],
)
def test_a_relay_must_be_one_of_its_parts(
    environment: pytest.MonkeyPatch, part: str, parts: str, error: str
) -> None:
    environment.setenv("RELAY_PART", part)
    environment.setenv("RELAY_PARTS", parts)

    with pytest.raises(SettingsError) as raised:
        load(OutboxSettings)

    assert str(raised.value).startswith(error)


def test_brokers_are_tried_in_turn_under_one_name(
    environment: pytest.MonkeyPatch,
) -> None:
    # Given three brokers
    environment.setenv("BROKER_HOST", "one, two:5672,three")

    # Then the common name of their certificates is required
    with pytest.raises(SettingsError, match="BROKER_SERVER_HOSTNAME: "):
        load(ServiceSettings)

    # When that name is set
    environment.setenv("BROKER_SERVER_HOSTNAME", "rabbitmq")
    settings = load(ServiceSettings)
    connection = Connection(broker_url(settings))

    # Then connections try one broker after another under that name
    assert tls.broker_options(settings)["server_hostname"] == "rabbitmq"
    servers = []
    for _ in range(4):
        servers.append((connection.hostname, connection.port, connection.userid))
        connection.maybe_switch_next()
    expected = [("one", 5671), ("two", 5672), ("three", 5671), ("one", 5671)]
    assert servers == [(host, port, "order") for host, port in expected]


def test_a_connection_selects_the_database_that_accepts_writes(
    environment: pytest.MonkeyPatch,
) -> None:
    # Given two databases
    environment.setenv("DATABASE_HOST", "one,two:5433")

    # When an engine connects
    url = db.url(load(ServiceSettings))
    _, options = PGDialect_psycopg2().create_connect_args(url)

    # Then libpq tries both, and accepts only one that takes writes
    assert (options["host"], options["port"]) == ("one,two", "5432,5433")
    assert options["target_session_attrs"] == "read-write"
    assert options["sslmode"] == "verify-full"


def test_a_secret_can_be_read_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a password in a file
    file = tmp_path / "password"
    file.write_text(" from a file \n")
    environment.delenv("BROKER_PASSWORD")
    environment.setenv("BROKER_PASSWORD_FILE", str(file))

    # When the settings are loaded
    settings = load(ServiceSettings)

    # Then only the line's end is removed
    assert settings.broker_password.get_secret_value() == " from a file "


def test_an_argument_overrides_the_environment_and_a_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a password in the environment and in a file
    file = tmp_path / "password"
    file.write_text("from a file")
    environment.setenv("BROKER_PASSWORD_FILE", str(file))

    # Then the environment wins, and an argument wins over both
    assert load(ServiceSettings).broker_password.get_secret_value() == SECRET
    overridden = load(ServiceSettings, broker_password="argument")
    assert overridden.broker_password.get_secret_value() == "argument"


def test_a_missing_secret_file_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("BROKER_PASSWORD_FILE", str(tmp_path / "missing"))

    with pytest.raises(SettingsError, match=r"^setting BROKER_PASSWORD_FILE: .*missing: No such"):
        load(ServiceSettings)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"s3cr3t\nanother\n", b"s3cr3t\0", b"\xff\xfe\x00s3cr3t"],
    ids=["empty", "blank", "two lines", "control character", "binary"],
)
def test_a_secret_file_must_contain_one_line_of_text(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    # Given a file that is not one line of text
    file = tmp_path / "password"
    file.write_bytes(content)
    environment.delenv("BROKER_PASSWORD")
    environment.setenv("BROKER_PASSWORD_FILE", str(file))

    # Then the error names the setting and the file, and does not quote it
    with pytest.raises(SettingsError) as error:
        load(ServiceSettings)
    assert str(error.value).startswith(f"setting BROKER_PASSWORD_FILE: {file}: it ")
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize("name", ["DATABASE_NAME", "DATABASE_USER", "DATABASE_PASSWORD"])
def test_an_empty_variable_does_not_set_a_required_setting(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(name, "")

    with pytest.raises(SettingsError, match=f"setting {name}: Field required"):
        load(ServiceSettings)


def test_an_empty_variable_leaves_the_default_or_the_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given empty variables, one of which has a file
    for name in ("HEALTH_FILE", "OTLP_ENDPOINT", "BROKER_VHOST", "BROKER_PASSWORD"):
        environment.setenv(name, "")
    (tmp_path / "password").write_text("from a file")
    environment.setenv("BROKER_PASSWORD_FILE", str(tmp_path / "password"))

    # Then they count as unset
    settings = load(ServiceSettings)
    assert (settings.health_file, settings.otlp_endpoint) == (None, None)
    assert settings.broker_vhost == "orders"
    assert settings.broker_password.get_secret_value() == "from a file"


def test_settings_do_not_show_their_secrets(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in settings.model_dump_json()


def test_retry_tiers_are_seconds_separated_by_commas(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RETRY_TIERS", "0.5,1,30")

    assert load(ServiceSettings).retry_tiers == (0.5, 1.0, 30.0)


def test_a_process_requires_only_the_settings_that_it_uses(environment: pytest.MonkeyPatch) -> None:
    # Given an environment without the required settings
    for name in REQUIRED:
        environment.delenv(name)

    # Then settings that do not need them load, and errors name only their own settings
    assert load(Settings).release == "dev"
    with pytest.raises(SettingsError) as error:
        load(BrokerSettings)
    assert "DATABASE" not in str(error.value)


def test_settings_are_immutable(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)

    with pytest.raises(ValidationError, match="frozen"):
        settings.broker_user = "guest"


def test_an_unknown_variable_is_ignored(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BROKER_COLOUR", "green")

    load(ServiceSettings)
