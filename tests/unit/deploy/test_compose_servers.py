"""The broker and the database require TLS, and each private key is mounted in one container."""

import re
from pathlib import Path

import pytest

from console.certificates.certificate_authority import SERVERS
from deploy.compose import secret_files
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.servers import broker
from deploy.local.templates import render
from tests.support.compose import OURS, SERVICES, mounts


def test_a_private_key_is_mounted_only_in_its_server() -> None:
    for volume in ("authority", "trust", *(f"{server}-tls" for server in SERVERS)):
        # When the mounts of each volume are listed
        writers = {n for n, s in SERVICES.items() if mounts(s) & {f"{volume}:{_place(volume)}"}}
        readers = {n for n, s in SERVICES.items() if f"{volume}:{_place(volume)}:ro" in mounts(s)}

        # Then one service writes the volume, and only its server reads it
        assert writers == {"certificates"}, volume
        if volume == "authority":
            assert not readers
        elif volume != "trust":
            assert readers == {volume.removesuffix("-tls")}


def _place(volume: str) -> str:
    return f"/tls/{volume.removesuffix('-tls')}"


@pytest.mark.parametrize("name", [name for name in OURS if name != "certificates"])
def test_a_client_verifies_the_names_of_servers(
    name: str,
) -> None:
    # Given the settings of the client and the names in the certificates
    environment = OURS[name]["environment"]
    names = OURS["certificates"]["environment"]["TLS_NAMES"].split(",")

    # Then it verifies the servers by the authority, under one of these names
    assert mounts(OURS[name]) == {"trust:/tls/trust:ro"}
    for server in ("BROKER", "DATABASE"):
        if f"{server}_HOST" in environment:
            assert environment[f"{server}_HOST"] in names
            assert environment[f"{server}_CA_FILE"] == str(secret_files.CA_FILE)
    if address := environment.get("BROKER_ADMIN_URL"):
        assert re.fullmatch(rf"https://({'|'.join(names)}):15671", address)


def test_a_certificate_belongs_to_the_user_of_its_server() -> None:
    # Given the script and the Dockerfile
    script = OURS["certificates"]["entrypoint"][-1]
    dockerfile = (REPOSITORY / "deploy/Dockerfile").read_text()

    # Then the script and the image use the user id of the servers
    assert f"for server in {' '.join(SERVERS)};" in script
    assert {SERVICES[s]["user"] for s in (*SERVERS, "certificates")} == {"999:999"}
    owned = re.findall(r"install -d -o 999 -g 999 -m \d+ (.*?)(?: \\)?$", dockerfile, re.MULTILINE)
    assert set(" ".join(owned).split()) == {v.split(":")[1] for v in mounts(OURS["certificates"])}


def test_the_broker_accepts_only_tls(tmp_path: Path) -> None:
    # When the configuration is written
    secret_files.write(tmp_path)
    settings = _settings((tmp_path / secret_files.BROKER_CONFIGURATION).read_text())

    # Then there is no listener without TLS
    assert settings["listeners.tcp"] == "none"
    assert settings["listeners.ssl.default"] == "0.0.0.0:5671"
    assert not any(name.startswith("management.tcp") for name in settings)
    # Otherwise a second listener for metrics would use the same port, and the node would not start.
    assert "{rabbitmq_prometheus, [{tcp_config, []}]}" in broker.ADVANCED.read_text()
    place = f"./{broker.ADVANCED.relative_to(REPOSITORY)}:/etc/rabbitmq/advanced.config:ro"
    assert place in mounts(SERVICES["rabbitmq"])
    # The authentication mechanism is part of a plugin; without the plugin every login fails.
    place = f"./{broker.PLUGINS.relative_to(REPOSITORY)}:/etc/rabbitmq/enabled_plugins:ro"
    assert place in mounts(SERVICES["rabbitmq"])
    assert "rabbitmq_auth_mechanism_ssl" in broker.PLUGINS.read_text()
    mounted = {f"{volume.split(':')[1]}/" for volume in mounts(SERVICES["rabbitmq"])}
    for file in ("cacertfile", "certfile", "keyfile"):
        assert any(settings[f"ssl_options.{file}"].startswith(place) for place in mounted)


def test_the_database_has_the_settings_of_a_local_run() -> None:
    # Given the settings of both
    local = _settings(
        render("postgresql.conf.j2", ports=Ports.model_construct(), durable=True, server_file="")
    )
    here = _settings((REPOSITORY / "deploy/compose/postgres/postgresql.conf").read_text())

    # When they are compared
    different = {name for name in local.keys() | here if local.get(name) != here.get(name)}

    # Then they differ in addresses and paths only
    assert different == {
        *("listen_addresses", "port", "unix_socket_directories", "hba_file"),
        *("ssl_cert_file", "ssl_key_file"),
    }


def test_the_database_accepts_remote_clients_only_with_tls() -> None:
    lines = (REPOSITORY / "deploy/compose/postgres/pg_hba.conf").read_text().splitlines()
    access = [line.split() for line in lines if line and not line.startswith("#")]

    assert {(line[0], line[-1]) for line in access} == {
        ("local", "scram-sha-256"),
        ("hostssl", "scram-sha-256"),
    }


def _settings(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in (x.partition("=") for x in lines)}
