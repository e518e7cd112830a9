"""Containers have least privileges, limits and secrets; the image has only what programs import."""

import configparser
import re
from pathlib import Path

import pytest

from console.certificates.certificate_authority import SERVERS
from deploy.compose import secret_files
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.servers import credentials
from order_app.storage import api_keys
from tests.support.compose import (
    COMPOSE,
    ENVIRONMENTS,
    OURS,
    SERVICES,
    every_service,
)

#: The ports of programs that a local run does not have.
ONLY_HERE = {"GRAFANA_PORT": 3000, "JAEGER_PORT": 16686}


@every_service
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("", "0", "root")


@every_service
def test_every_service_has_limits(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit", "logging"} <= service.keys()
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


@pytest.mark.parametrize("name", SERVERS)
def test_temporary_file_systems_belong_to_the_user_of_a_server(name: str) -> None:
    # Given the user of the server, and its temporary file systems
    uid, gid = SERVICES[name]["user"].split(":")
    over_the_image = [place for place in SERVICES[name]["tmpfs"] if place != "/tmp"]

    # Then each belongs to that user
    assert over_the_image
    assert all(place.endswith(f":uid={uid},gid={gid}") for place in over_the_image)


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    # Given the published ports, and the defaults of a local run
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    local = {n.upper(): port for n, port in Ports.model_construct().model_dump().items()}
    defaults = local | ONLY_HERE

    # Then each is bound to the loopback address
    for port in published:
        parts = re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z_]+):-(\d+)\}:\d+", port)
        assert parts, port
        assert defaults[parts[1]] == int(parts[2])


def test_only_flower_of_the_monitoring_programs_has_a_port() -> None:
    assert SERVICES["flower"]["ports"] == ["127.0.0.1:${FLOWER_PORT:-5555}:5555"]
    assert "ports" not in SERVICES["exporter"]


@every_service
def test_every_image_is_a_variable_with_a_pinned_default(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:[a-z0-9.-]+\}", image)
    assert not image.endswith(":latest}")


def test_tests_in_containers_use_the_images_of_the_compose_file() -> None:
    source = (REPOSITORY / "testkit/servers/containers.py").read_text()
    for name in ("rabbitmq", "postgres"):
        variable, default = re.findall(r"\{([A-Z_]+):-(.+)\}", SERVICES[name]["image"])[0]
        assert f'os.environ.get("{variable}", "{default}")' in source
        assert f'"${{{variable}:-{default}}}"' in (REPOSITORY / ".ci/containers").read_text()


def test_secrets_are_files_outside_of_git_and_the_image() -> None:
    # Given the directory of the secrets
    directory = secret_files.DIRECTORY.relative_to(REPOSITORY)

    # Then every secret is a file there, and the directory is ignored
    assert COMPOSE["secrets"] == {
        name: {"file": f"{directory}/{name}"} for name in secret_files.names()
    }
    assert f"{directory}/" in (REPOSITORY / ".gitignore").read_text().splitlines()
    # The image contains only files that are named, and these are not.
    assert not any(line.startswith("!deploy") for line in _dockerignore())


def test_the_deployment_gets_every_secret_that_it_registers() -> None:
    # Only Flower and the console need these two.
    others = {credentials.FLOWER, credentials.CONSOLE}
    known = {*credentials.names(), secret_files.PROMETHEUS} - others
    assert sorted(OURS["deploy"]["secrets"]) == sorted(known)


@every_service
def test_no_environment_variable_is_a_secret(name: str) -> None:
    for variable in SERVICES[name].get("environment", {}):
        assert not re.search(r"(PASSWORD|PASS|SECRET|TOKEN|KEY)$", variable)


def test_only_the_owner_can_read_the_directory_of_the_secrets(tmp_path: Path) -> None:
    # When the secrets are written twice
    secret_files.write(tmp_path / "secrets")
    password = credentials.read(tmp_path / "secrets", credentials.DEPLOYER)
    key = credentials.read(tmp_path / "secrets", secret_files.PROMETHEUS)
    secret_files.write(tmp_path / "secrets")

    # Then every file exists, and the second run changed no password and no key
    assert credentials.read(tmp_path / "secrets", secret_files.PROMETHEUS) == key
    assert api_keys.prefix_of(key)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in (tmp_path / "secrets").iterdir()) == sorted(secret_files.names())
    configuration = (tmp_path / "secrets" / secret_files.BROKER_CONFIGURATION).read_text()
    assert f"default_pass = {password}\n" in configuration


def test_the_image_contains_only_what_programs_import() -> None:
    # Given the packages of the project that programs import
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    # import-linter proves that no program imports these.
    packages = set(setup["importlinter"]["root_packages"].split()) - {
        "contracts",
        "deploy",
        "bench",
        "testkit",
        "tests",
    }

    # Then the image contains them and their requirements, and nothing else
    workers = {package for package in packages if package.endswith("_worker")}
    assert {line[1:] for line in _dockerignore() if line.startswith("!")} == {
        *(packages - workers),
        "*_worker",
        *(f"requirements/{pins}.txt" for pins in ("run", "exporter", "flower")),
    }


def test_the_image_installs_only_packages_with_pinned_hashes() -> None:
    # Given the Dockerfile
    dockerfile = (REPOSITORY / "deploy/Dockerfile").read_text()

    # Then every environment is installed from a list with hashes
    own = [(place, Path(place).name) for place in ENVIRONMENTS.values()]
    for place, pins in (("/opt/orders", "run"), *own):
        assert f"environment {place} /requirements/{pins}.txt" in dockerfile
        assert f"COPY --from=build {place} {place}" in dockerfile
    assert "--require-hashes" in dockerfile


def _dockerignore() -> list[str]:
    return (REPOSITORY / ".dockerignore").read_text().splitlines()
