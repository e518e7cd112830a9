"""docker-compose.yml says what the code says, and lets no container do more than it needs."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose import secret_files
from deploy.local import credentials
from deploy.local.health import HEARTBEAT
from deploy.local.ports import Ports
from deploy.local.programs import PROGRAMS, SERVICE_NAMES, Health

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if "ORDERS_IMAGE" in s["image"]}

every_service = pytest.mark.parametrize("name", SERVICES)
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


# --- What runs ----------------------------------------------------------------------------------


def test_the_programs_are_those_of_a_local_run_with_the_same_commands_in_the_same_order() -> None:
    # given
    local = [
        # A container has an address of its own; which of it are published is another matter.
        (program.name, program.command.replace("127.0.0.1:$API_PORT", "0.0.0.0:8000").split())
        for program in PROGRAMS
    ]

    # then
    assert [(n, _words(s["command"])) for n, s in OURS.items() if n != "deploy"] == local


def _words(command: str | list[str]) -> list[str]:
    return command.split() if isinstance(command, str) else command


@every_program
def test_a_program_gets_its_own_users_secrets_and_no_other(program: Any) -> None:
    # given
    service = OURS[program.name]
    files = [f"{program.user}.broker"]
    if program.user in SERVICE_NAMES:
        files.append(f"{program.user}.database")

    # when
    told = {name: v for name, v in service["environment"].items() if name.endswith("_FILE")}

    # then
    assert service["secrets"] == files
    assert service["environment"]["BROKER_USER"] == program.user
    assert sorted(v for n, v in told.items() if n != "HEALTH_FILE") == [
        f"/run/secrets/{file}" for file in files
    ]


def test_programs_wait_for_the_deployment_and_it_waits_for_healthy_servers() -> None:
    assert OURS["deploy"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "rabbitmq": {"condition": "service_healthy"},
    }
    for program in PROGRAMS:
        assert OURS[program.name]["depends_on"] == {
            "deploy": {"condition": "service_completed_successfully"}
        }


# --- Health -------------------------------------------------------------------------------------


@every_service
def test_every_service_has_a_health_check_or_a_reason(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) != bool(SERVICES[name].get("x-no-healthcheck"))


@every_program
def test_a_program_is_healthy_when_it_is_in_a_local_run(program: Any) -> None:
    # given
    service = OURS[program.name]
    test = service.get("healthcheck", {}).get("test", [])

    # then
    match program.health:
        case Health.READY:
            assert "http://127.0.0.1:8000/readyz" in test[-1]
        case Health.HEARTBEAT:
            file = service["environment"]["HEALTH_FILE"]
            assert f"os.stat('{file}').st_mtime > {HEARTBEAT:g})" in test[-1]
        case Health.RUNS:
            assert not test


# --- Confinement --------------------------------------------------------------------------------


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


def test_every_published_port_is_on_this_machine_only_and_has_the_default_of_a_local_run() -> None:
    # given
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    defaults = {n.upper(): port for n, port in Ports.model_construct().model_dump().items()}

    # then
    for port in published:
        parts = re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z_]+):-(\d+)\}:\d+", port)
        assert parts, port
        assert defaults[parts[1]] == int(parts[2])


@every_service
def test_every_image_is_a_variable_with_a_default(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:[a-z0-9.-]+\}", image)
    assert not image.endswith(":latest}")


def test_the_tests_on_containers_run_on_the_images_of_the_compose_file() -> None:
    source = (ROOT / "tests/support/containers.py").read_text()
    for name in ("rabbitmq", "postgres"):
        variable, default = re.findall(r"\{([A-Z_]+):-(.+)\}", SERVICES[name]["image"])[0]
        assert f'os.environ.get("{variable}", "{default}")' in source


# --- Secrets ------------------------------------------------------------------------------------


def test_secrets_are_files_that_git_and_the_image_do_not_get() -> None:
    # given
    directory = secret_files.DIRECTORY.relative_to(ROOT)

    # then
    assert COMPOSE["secrets"] == {
        name: {"file": f"{directory}/{name}"} for name in secret_files.names()
    }
    assert f"{directory}/" in (ROOT / ".gitignore").read_text().splitlines()
    # The image gets what is named, and this is not.
    assert not any(line.startswith("!deploy") for line in _dockerignore())


def test_the_deployment_has_every_password() -> None:
    assert sorted(OURS["deploy"]["secrets"]) == sorted(credentials.names())


@every_service
def test_no_environment_variable_is_a_secret(name: str) -> None:
    for variable in SERVICES[name].get("environment", {}):
        assert not re.search(r"(PASSWORD|PASS|SECRET|TOKEN|KEY)$", variable)


def test_only_the_owner_of_the_directory_reaches_the_secrets(tmp_path: Path) -> None:
    # when
    secret_files.write(tmp_path / "secrets")
    password = credentials.read(tmp_path / "secrets", credentials.DEPLOYER)
    secret_files.write(tmp_path / "secrets")

    # then every file is there, and a second run changed no password
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in (tmp_path / "secrets").iterdir()) == sorted(secret_files.names())
    configuration = (tmp_path / "secrets" / secret_files.BROKER_CONFIGURATION).read_text()
    assert f"default_pass = {password}\n" in configuration


# --- The image ----------------------------------------------------------------------------------


def test_the_image_gets_the_packages_that_the_programs_consist_of() -> None:
    # given
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = setup["importlinter"]["root_packages"].split()

    # then
    assert {line[1:] for line in _dockerignore() if line.startswith("!")} == {
        *packages,
        "requirements/run.txt",
    }


def _dockerignore() -> list[str]:
    return (ROOT / ".dockerignore").read_text().splitlines()


# --- The file itself ----------------------------------------------------------------------------


def test_docker_compose_understands_the_file() -> None:
    # given
    commands = (["docker", "compose"], ["docker-compose"])
    working = [c for c in commands if shutil.which(c[0]) and _run([*c, "version"]) is None]
    if not working:
        pytest.skip("NOT RUN, there is no docker compose here: docker compose config")

    # then
    for command in working:
        assert _run([*command, "--profile", "mail", "config", "--quiet"]) is None


def _run(command: list[str]) -> str | None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr or str(done.returncode)
