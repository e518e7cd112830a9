"""`orderctl tls`: the authority, and the certificates of servers and broker users."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from common.kombu_topology import topology
from console.certificates import certificate_authority
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
    """The path of a directory that does not exist yet."""
    return tmp_path / "tls"


def shown(directory: Path) -> dict[str, dict[str, Any]]:
    certificates = json.loads(orderctl_tls(directory, "show", "--json").stdout)
    return {Path(certificate["file"]).stem: certificate for certificate in certificates}


def test_init_creates_only_missing_certificates(tls_dir: Path) -> None:
    # Given an initialized directory
    orderctl_tls(tls_dir, "init")
    before = {file: file.read_bytes() for file in tls_dir.iterdir()}

    # When it is initialized again
    again = orderctl_tls(tls_dir, "init")

    # Then no file has changed
    assert again.stdout == "certificates: nothing to change\n"
    assert {file: file.read_bytes() for file in tls_dir.iterdir()} == before
    by_name = shown(tls_dir)
    assert set(by_name) == {"ca", *SERVERS}
    assert by_name["rabbitmq"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert 360 <= by_name["rabbitmq"]["days_left"] <= 365


def test_keys_are_readable_by_their_owner_only(tls_dir: Path) -> None:
    orderctl_tls(tls_dir, "init")
    orderctl_tls(tls_dir, "renew")

    modes = {file.name: file.stat().st_mode & 0o777 for file in tls_dir.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600} | {f"{s}.pem": 0o600 for s in SERVERS}


def test_renew_replaces_server_certificates_but_not_the_authority(tls_dir: Path) -> None:
    # Given an initialized directory
    orderctl_tls(tls_dir, "init")
    before = {file.name: file.read_bytes() for file in tls_dir.iterdir()}

    # When the certificates are renewed
    orderctl_tls(tls_dir, "renew")

    # Then those of the servers have changed
    changed = {f.name for f in tls_dir.iterdir() if f.read_bytes() != before[f.name]}
    assert changed == {f"{server}.pem" for server in SERVERS}


def test_init_renews_certificates_that_expire_soon_or_lack_names(tls_dir: Path) -> None:
    # Given a certificate with 29 days left
    authority = Authority(tls_dir)
    list(authority.init())
    authority.issue("postgres", lifetime=timedelta(days=29))
    assert shown(tls_dir)["postgres"]["days_left"] == 28

    # Then `init` renews it
    orderctl_tls(tls_dir, "init")
    assert shown(tls_dir)["postgres"]["days_left"] >= 360

    # And certificates that lack a name
    output = orderctl_tls(tls_dir, "init", TLS_NAMES="rabbit.internal, 10.0.0.5")
    assert output.stdout.count("created ") == 2
    names = ["localhost", "127.0.0.1", "::1", "rabbit.internal", "10.0.0.5"]
    assert shown(tls_dir)["rabbitmq"]["names"] == names


def test_each_broker_user_gets_a_private_certificate(tls_dir: Path) -> None:
    # When certificates for clients are requested
    output = orderctl_tls(tls_dir, "init", "--clients")

    # Then each broker user has a file
    users = {user.name for user in topology().users}
    files = list((tls_dir / "clients").iterdir())
    assert {file.name for file in files} == {f"{user}.pem" for user in users}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert set(shown(tls_dir)) == {"ca", *SERVERS, *users}
    assert shown(tls_dir)["order"]["subject"] == "CN=order"
    assert output.stdout.count("created ") == 1 + len(SERVERS) + len(users)

    # And a second run creates no file
    for again in (("init", "--clients"), ("init",)):
        assert orderctl_tls(tls_dir, *again).stdout == "certificates: nothing to change\n"


def test_client_certificates_are_renewed(tls_dir: Path) -> None:
    # Given certificates for clients
    orderctl_tls(tls_dir, "init", "--clients")
    file = Authority(tls_dir).client_file("order")
    before = file.read_bytes()

    # When the certificates are renewed
    orderctl_tls(tls_dir, "renew")

    # Then those of clients have changed
    assert file.read_bytes() != before
    assert file.stat().st_mode & 0o777 == 0o600

    # And `init` renews one that expires soon
    Authority(tls_dir).issue_client("order", lifetime=timedelta(days=29))
    output = orderctl_tls(tls_dir, "init")
    assert output.stdout.count("created ") == 1
    assert shown(tls_dir)["order"]["days_left"] >= 360


def test_a_missing_authority_is_not_replaced(tls_dir: Path) -> None:
    # Given that the authority that every client trusts is gone
    orderctl_tls(tls_dir, "init")
    (tls_dir / "ca.key").unlink()

    # Then both commands fail
    for command in ("init", "renew"):
        result = orderctl_tls(tls_dir, command)
        assert result.exit_code == 1
        assert "ca.key" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["init", "renew"])
def test_the_key_of_another_authority_signs_nothing(tls_dir: Path, command: str) -> None:
    # Given the key of another authority
    orderctl_tls(tls_dir, "init")
    other = tls_dir.parent / "other"
    orderctl_tls(other, "init")
    (tls_dir / "ca.key").write_bytes((other / "ca.key").read_bytes())
    before = Authority(tls_dir).server_file("rabbitmq").read_bytes()

    # Then the command fails, and no certificate is signed
    result = orderctl_tls(tls_dir, command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "ca.key is not the key of" in result.stderr
    assert Authority(tls_dir).server_file("rabbitmq").read_bytes() == before


def test_init_replaces_certificates_of_another_authority(tls_dir: Path) -> None:
    # Given a server's certificate of another authority
    orderctl_tls(tls_dir, "init")
    other = tls_dir.parent / "other"
    orderctl_tls(other, "init")
    file = Authority(tls_dir).server_file("rabbitmq")
    file.write_bytes(Authority(other).server_file("rabbitmq").read_bytes())

    # Then `init` replaces it, and no other
    assert orderctl_tls(tls_dir, "init").stdout.count("created ") == 1
    assert orderctl_tls(tls_dir, "init").stdout == "certificates: nothing to change\n"


def test_an_interrupted_creation_is_repeated(
    tls_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run that was killed after it had written the key
    write = certificate_authority.write

    def and_die(file: Path, content: bytes, **options: Any) -> None:
        write(file, content, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(certificate_authority, "write", and_die)
        assert orderctl_tls(tls_dir, "init").exit_code == 1
    assert [file.name for file in tls_dir.iterdir()] == ["ca.key"]

    # Then the next run creates everything
    assert orderctl_tls(tls_dir, "init").exit_code == 0
    assert set(shown(tls_dir)) == {"ca", *SERVERS}


@pytest.mark.parametrize("command", ["init", "renew"])
def test_two_commands_at_once_do_not_mix(tls_dir: Path, command: str) -> None:
    # Given a command that has created the authority, and continues
    first = Authority(tls_dir).init()
    next(first)

    # When another one begins
    second = orderctl_tls(tls_dir, command)

    # Then it changes nothing
    assert (second.exit_code, second.stdout) == (1, "")
    assert f"another command changes {tls_dir}: wait until it ends" in second.stderr
    assert len(list(first)) == len(SERVERS)
    assert orderctl_tls(tls_dir, "init").stdout == "certificates: nothing to change\n"


def test_an_address_in_another_form_is_the_same_name(tls_dir: Path) -> None:
    # Given a certificate for an IPv6 address in capitals, with zeros
    names = "2001:DB8:0::1,10.0.0.5"
    orderctl_tls(tls_dir, "init", TLS_NAMES=names)

    # Then `init` does not renew it
    again = orderctl_tls(tls_dir, "init", TLS_NAMES=names)
    assert again.stdout == "certificates: nothing to change\n"
    assert shown(tls_dir)["rabbitmq"]["names"][-2:] == ["2001:db8::1", "10.0.0.5"]


@pytest.mark.parametrize("names", ["a b", "-", "ä.example", "a,/etc/passwd"])
def test_an_invalid_host_name_is_rejected(tls_dir: Path, names: str) -> None:
    result = orderctl_tls(tls_dir, "init", TLS_NAMES=names)

    assert result.exit_code == 1
    assert "TLS_NAMES" in (result.stderr or str(result.exception))
