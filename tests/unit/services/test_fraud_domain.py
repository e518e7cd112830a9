"""The rules by which an order is suspicious, and their settings."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import certifi
import pytest

from eventbus.settings.base import SettingsError, load
from fraud_worker.domain import (
    POINTS,
    Facts,
    Limits,
    Rule,
    Sign,
    customer_of,
    network_of,
    score,
    signs,
)
from fraud_worker.settings import LimitSettings, WorkerSettings

LIMITS = Limits(
    window=timedelta(hours=1),
    email_orders=5,
    ip_orders=20,
    amounts={"EUR": 100_000, "JPY": 160_000},
    pieces=50,
    skus=20,
    score=60,
)
USUAL: dict[str, Any] = {
    "currency": "EUR",
    "total": 100_000,
    "pieces": 50,
    "skus": 20,
    "email_orders": 5,
    "ip_orders": 20,
}


def settings(**changes: Any) -> WorkerSettings:
    values: dict[str, Any] = {
        "broker_user": "fraud",
        "broker_password": "secret",
        "broker_ca_file": certifi.where(),
        "database_name": "fraud_service",
        "database_user": "fraud_service",
        "database_password": "secret",
        "database_ca_file": certifi.where(),
    }
    return load(WorkerSettings, **(values | changes))


def test_an_order_at_every_limit_breaks_no_rule() -> None:
    assert signs(Facts(**USUAL), LIMITS) == ()


@pytest.mark.parametrize(
    ("rule", "fact", "limit"),
    [
        (Rule.EMAIL_ORDERS, "email_orders", 5),
        (Rule.IP_ORDERS, "ip_orders", 20),
        (Rule.AMOUNT, "total", 100_000),
        (Rule.PIECES, "pieces", 50),
        (Rule.SKUS, "skus", 20),
    ],
)
def test_a_value_above_its_limit_breaks_its_rule(rule: Rule, fact: str, limit: int) -> None:
    facts = Facts(**(USUAL | {fact: limit + 1}))

    assert signs(facts, LIMITS) == (Sign(rule=rule, found=limit + 1, limit=limit),)


def test_a_total_is_compared_in_its_currency() -> None:
    assert signs(Facts(**(USUAL | {"currency": "JPY", "total": 150_000})), LIMITS) == ()
    assert signs(Facts(**(USUAL | {"currency": "XAU", "total": 10**12})), LIMITS) == ()


def test_the_score_is_the_sum_of_the_broken_rules() -> None:
    broken = signs(Facts(**(USUAL | {"ip_orders": 21, "skus": 21})), LIMITS)

    assert score(broken) == POINTS[Rule.IP_ORDERS] + POINTS[Rule.SKUS]


def test_two_weak_signs_make_an_order_suspicious() -> None:
    weak = {rule: points for rule, points in POINTS.items() if points < LIMITS.score}

    assert set(weak) == {Rule.IP_ORDERS, Rule.PIECES, Rule.SKUS}
    assert sum(sorted(weak.values())[:2]) >= LIMITS.score


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        (None, None),
        ("nowhere", None),
    ],
)
def test_an_ipv6_address_is_counted_by_its_network(ip: str | None, network: str | None) -> None:
    assert network_of(ip) == network


def test_a_customer_is_identified_regardless_of_case() -> None:
    assert customer_of("Ada@Example.com") == customer_of("ada@example.com")


def test_the_limits_are_settings() -> None:
    limits = settings(fraud_window="60", fraud_amounts="EUR:5, JPY:700").limits

    assert limits.window == timedelta(minutes=1)
    assert limits.amounts == {"EUR": 5, "JPY": 700}


def test_every_currency_of_the_shop_has_a_limit() -> None:
    from order_app.settings import ApiSettings

    currencies = ApiSettings.model_fields["order_currencies"].default
    assert set(settings().limits.amounts) == set(currencies)


@pytest.mark.parametrize("wrong", ["EUR", "EUR:", "EUR:-1", "euro:5", "EUR:5;JPY:7", ""])
def test_an_error_in_the_amounts_names_the_setting(wrong: str) -> None:
    with pytest.raises(SettingsError, match="setting FRAUD_AMOUNTS: "):
        settings(fraud_amounts=wrong)


def test_the_limits_need_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a certificate and a secret that were replaced by an empty file, and by nothing
    (tmp_path / "ca.crt").touch()
    monkeypatch.setenv("DATABASE_CA_FILE", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("FRAUD_SCORE", "77")

    # When a child process of the worker loads the limits for its first order
    limits = load(LimitSettings).limits

    # Then it has them
    assert limits.score == 77
