"""The settings of the mailer: defaults, and combinations that are rejected."""

from typing import Any

import certifi
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from eventbus.database import db
from notification_worker import mailer
from notification_worker.domain import retry_delay
from notification_worker.settings import MailerSettings


def test_the_operator_is_the_sender_by_default() -> None:
    assert settings().operator == "orders@shop.example"
    assert settings(operator_email="ops@shop.example").operator == "ops@shop.example"


def test_the_default_attempts_take_about_two_days() -> None:
    attempts = settings().mail_max_attempts
    days = sum(retry_delay(n, jitter=0.5) for n in range(1, attempts)) / 86_400
    assert 1.8 < days < 2.2


def settings(**changes: Any) -> MailerSettings:
    values: dict[str, Any] = {
        "broker_user": "notification",
        "broker_password": "secret",
        "database_name": "notification_service",
        "database_user": "notification_service",
        "database_password": "secret",
        "broker_ca_file": certifi.where(),
        "database_ca_file": certifi.where(),
        "mail_from": "Shop <orders@shop.example>",
    }
    return MailerSettings(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"mail_from": "nobody"}, "mail_from"),
        ({"mail_from": "Shop\r\nBcc: x@y.z <orders@shop.example>"}, "mail_from"),
        ({"operator_email": "nobody"}, "operator_email"),
        ({"operator_email": "a@shop.example\r\nBcc: x@y.z"}, "operator_email"),
        ({"smtp_username": "shop", "smtp_starttls": True}, "smtp_password"),
        ({"smtp_password": "secret"}, "smtp_password"),
        ({"smtp_username": "shop", "smtp_password": "secret"}, "smtp_tls"),
        ({"smtp_starttls": True, "smtp_tls": "none"}, "smtp_tls"),
        ({"smtp_tls": "sometimes"}, "smtp_tls"),
        ({"smtp_port": 465}, "smtp_tls"),
        ({"smtp_port": 465, "smtp_tls": "starttls"}, "smtp_tls"),
        ({"smtp_ca_file": certifi.where()}, "smtp_ca_file"),
        ({"smtp_tls": "implicit", "smtp_ca_file": "/nowhere/ca.crt"}, "smtp_ca_file"),
        ({"smtp_accept_timeout": 0}, "smtp_accept_timeout"),
        ({"smtp_connections": 0}, "smtp_connections"),
    ],
)
def test_an_invalid_setting_is_named(changes: dict[str, Any], setting: str) -> None:
    with pytest.raises(ValidationError) as error:
        settings(**changes)
    assert [problem["loc"] for problem in error.value.errors()] == [(setting,)]


def test_a_statement_of_the_mailer_ends_although_the_database_does_not_respond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a record of the mailer's engines
    engines: list[dict[str, Any]] = []
    create = db.engine

    def recorded(*arguments: Any, **options: Any) -> Engine:
        engines.append(options)
        return create(*arguments, **options)

    monkeypatch.setattr(db, "engine", recorded)

    # When it starts
    mailer.start(settings())

    # Then the connections that send emails are limited (`statement_limit`)
    assert engines[0]["is_limited"]
