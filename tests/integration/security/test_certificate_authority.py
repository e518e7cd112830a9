"""`orderctl tls`: the authority, and the certificates of servers and broker users."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from common.kombu_topology import topology
from console.certificates.certificate_authority import SERVERS, Authority
from testkit.processes.orderctl import empty_environment_file, orderctl


def orderctl_tls(directory: Path, *arguments: str, **environment: str) -> Result:
    settings = {
        "ORDERS_ENV_FILE": str(empty_environment_file(directory.parent)),
        "TLS_DIR": str(directory),
    } | environment
    return orderctl(settings, "tls", *arguments)


@pytest.fixture
def tls_dir(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "tls"


def shown(directory: Path) -> dict[str, dict[str, Any]]:
    found = json.loads(orderctl_tls(directory, "show", "--json").stdout)
    return {Path(certificate["file"]).stem: certificate for certificate in found}


def test_init_makes_what_is_missing_and_changes_nothing_else(tls_dir: Path) -> None:
    # given
    orderctl_tls(tls_dir, "init")
    before = {file: file.read_bytes() for file in tls_dir.iterdir()}

    # when
    again = orderctl_tls(tls_dir, "init")

    # then
    assert again.stdout == "certificates: nothing to change\n"
    assert {file: file.read_bytes() for file in tls_dir.iterdir()} == before
    found = shown(tls_dir)
    assert set(found) == {"ca", *SERVERS}
    assert found["rabbitmq"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert 360 <= found["rabbitmq"]["days_left"] <= 365


def test_nobody_else_reads_a_key(tls_dir: Path) -> None:
    orderctl_tls(tls_dir, "init")
    orderctl_tls(tls_dir, "renew")

    modes = {file.name: file.stat().st_mode & 0o777 for file in tls_dir.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600} | {f"{s}.pem": 0o600 for s in SERVERS}


def test_renew_replaces_the_servers_and_keeps_the_authority(tls_dir: Path) -> None:
    # given
    orderctl_tls(tls_dir, "init")
    before = {file.name: file.read_bytes() for file in tls_dir.iterdir()}

    # when
    orderctl_tls(tls_dir, "renew")

    # then
    changed = {f.name for f in tls_dir.iterdir() if f.read_bytes() != before[f.name]}
    assert changed == {f"{server}.pem" for server in SERVERS}


def test_init_renews_what_ends_soon_or_has_other_names(tls_dir: Path) -> None:
    # given
    authority = Authority(tls_dir)
    list(authority.init())
    authority.issue("postgres", lifetime=timedelta(days=29))
    assert shown(tls_dir)["postgres"]["days_left"] == 28

    # then what ends soon is renewed
    orderctl_tls(tls_dir, "init")
    assert shown(tls_dir)["postgres"]["days_left"] >= 360

    # and what lacks a name
    told = orderctl_tls(tls_dir, "init", TLS_NAMES="rabbit.internal, 10.0.0.5")
    assert told.stdout.count("created ") == 2
    names = ["localhost", "127.0.0.1", "::1", "rabbit.internal", "10.0.0.5"]
    assert shown(tls_dir)["rabbitmq"]["names"] == names


def test_each_broker_user_gets_a_certificate_that_only_its_owner_reads(tls_dir: Path) -> None:
    # when
    told = orderctl_tls(tls_dir, "init", "--clients")

    # then
    users = {user.name for user in topology().users}
    files = list((tls_dir / "clients").iterdir())
    assert {file.name for file in files} == {f"{user}.pem" for user in users}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert set(shown(tls_dir)) == {"ca", *SERVERS, *users}
    assert shown(tls_dir)["order"]["subject"] == "CN=order"
    assert told.stdout.count("created ") == 1 + len(SERVERS) + len(users)

    # and neither of them again
    for again in (("init", "--clients"), ("init",)):
        assert orderctl_tls(tls_dir, *again).stdout == "certificates: nothing to change\n"


def test_clients_certificates_are_renewed_too(tls_dir: Path) -> None:
    # given
    orderctl_tls(tls_dir, "init", "--clients")
    file = Authority(tls_dir).client_file("order")
    before = file.read_bytes()

    # when
    orderctl_tls(tls_dir, "renew")

    # then
    assert file.read_bytes() != before
    assert file.stat().st_mode & 0o777 == 0o600

    # and one that ends soon, by each `make up`
    Authority(tls_dir).issue_client("order", lifetime=timedelta(days=29))
    told = orderctl_tls(tls_dir, "init")
    assert told.stdout.count("created ") == 1
    assert shown(tls_dir)["order"]["days_left"] >= 360


def test_a_missing_authority_is_not_replaced_by_another(tls_dir: Path) -> None:
    # given every client trusts the one that is gone
    orderctl_tls(tls_dir, "init")
    (tls_dir / "ca.key").unlink()

    # then
    for command in ("init", "renew"):
        refused = orderctl_tls(tls_dir, command)
        assert refused.exit_code == 1
        assert "ca.key" in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("names", ["a b", "-", "ä.example", "a,/etc/passwd"])
def test_a_name_that_no_host_has_is_refused(tls_dir: Path, names: str) -> None:
    refused = orderctl_tls(tls_dir, "init", TLS_NAMES=names)

    assert refused.exit_code == 1
    assert "TLS_NAMES" in (refused.stderr or str(refused.exception))
