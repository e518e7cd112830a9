"""Containers run the programs of a local run, with their own credentials and in the same order."""

import re

import pytest

from deploy.local import REPOSITORY
from deploy.local.processes.health import HEARTBEAT
from deploy.local.processes.programs import PROGRAMS, WITH_DATABASE, Health, Program
from deploy.local.servers import credentials
from tests.support.compose import (
    COMPOSE,
    ENVIRONMENTS,
    OURS,
    PROGRAMS_HERE,
    REPLACED,
    SERVICES,
    compose_commands,
    every_program,
    every_service,
    own_port,
    run_compose,
)

#: Services of our image that run once and exit.
ONCE = ("certificates", "deploy")


def test_containers_run_the_commands_of_a_local_run() -> None:
    # Given the programs of a local run
    local = [
        # A container listens on all of its addresses; published ports are restricted elsewhere.
        (
            program.name,
            re.sub(r"127\.0\.0\.1:\$\w+", "0.0.0.0:8000", _in_its_environment(program)).split(),
        )
        for program in PROGRAMS_HERE
    ]

    # Then containers run the same, except that the name of a worker includes its host
    here = [(n, _words(s["command"])) for n, s in OURS.items() if n not in ONCE]
    assert [(n, [word.removesuffix("-%h") for word in words]) for n, words in here] == local


def test_a_program_without_a_service_is_replaced_by_another() -> None:
    assert set(REPLACED) <= {program.name for program in PROGRAMS}
    assert not set(REPLACED) & SERVICES.keys()
    assert set(REPLACED.values()) <= SERVICES.keys()


def _in_its_environment(program: Program) -> str:
    if program.venv == ".venv":
        return program.command
    return f"{ENVIRONMENTS[program.venv]}/bin/{program.command}"


def _words(command: str | list[str]) -> list[str]:
    return command.split() if isinstance(command, str) else command


@every_program
def test_a_program_gets_only_the_secrets_of_its_user(program: Program) -> None:
    # Given the service of the program
    service = OURS[program.name]
    if program.name == "console":
        # The console reads all databases without the passwords of the services.
        files = [
            "console.broker",
            credentials.READER,
            credentials.CONSOLE,
            credentials.CONSOLE_KEY,
        ]
        assert service["secrets"] == files
        variables = {
            n: v
            for n, v in service["environment"].items()
            if n.endswith(("_PASSWORD_FILE", "_KEY_FILE"))
        }
        assert list(variables.values()) == [f"/run/secrets/{file}" for file in files]
        return
    files = [
        *([f"{program.user}.broker"] if program.needs_broker else []),
        *([f"{program.user}.database"] if program.user in WITH_DATABASE else []),
        *([credentials.FLOWER] if program.name == "flower" else []),
    ]

    # When its environment is searched for password files
    variables = {n: v for n, v in service["environment"].items() if n.endswith("_PASSWORD_FILE")}

    # Then it has its own secrets and no other
    assert service["secrets"] == files
    assert sorted(variables.values()) == [f"/run/secrets/{file}" for file in files]
    if program.needs_broker:
        assert service["environment"]["BROKER_USER"] == program.user


@every_program
def test_a_program_waits_for_the_deployment(program: Program) -> None:
    assert OURS[program.name]["depends_on"] == {
        "deploy": {"condition": "service_completed_successfully"}
    }


@every_program
def test_a_program_for_which_no_order_waits_has_a_tenth_of_the_time(program: Program) -> None:
    # Given Docker's default of 1024, and the nice value of a local run, which containers ignore
    shares = OURS[program.name].get("cpu_shares", 1024)

    assert shares == (102 if program.is_background else 1024)


def test_servers_start_after_certificates_and_before_deployment() -> None:
    # Given the servers
    servers = ("postgres", "rabbitmq")

    # Then the deployment depends on them, and they depend on the certificates
    assert OURS["deploy"]["depends_on"] == {s: {"condition": "service_healthy"} for s in servers}
    for server in servers:
        assert SERVICES[server]["depends_on"] == {
            "certificates": {"condition": "service_completed_successfully"}
        }
    assert not OURS["certificates"]["depends_on"]


@every_service
def test_every_referenced_volume_and_secret_is_declared(name: str) -> None:
    # Given the volumes and secrets of the service
    service = SERVICES[name]
    volumes = [volume.split(":") for volume in service.get("volumes", [])]
    secrets = [s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])]

    # Then each of them exists
    assert set(service.get("depends_on", {})) <= SERVICES.keys()
    assert set(secrets) <= COMPOSE["secrets"].keys()
    for source, _, *_mode in volumes:
        if source.startswith("."):
            assert (REPOSITORY / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


@every_service
def test_every_service_has_a_health_check_or_a_reason_for_none(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) != bool(SERVICES[name].get("x-no-healthcheck"))


@every_program
def test_a_health_check_tests_what_a_local_run_tests(program: Program) -> None:
    # Given the health check of the service
    service = OURS[program.name]
    test = service.get("healthcheck", {}).get("test", [])

    # Then it tests what a local run tests
    match program.health:
        case Health.READY:
            assert "http://127.0.0.1:8000/readyz" in test[-1]
        case Health.HEARTBEAT:
            file = service["environment"]["HEALTH_FILE"]
            assert f"abs(time.time() - os.stat('{file}').st_mtime) > {HEARTBEAT:g})" in test[-1]
        case Health.METRICS:
            assert f"http://127.0.0.1:{own_port(program)}/metrics" in test[-1]
        case Health.RUNS:
            assert not test


def test_docker_compose_accepts_the_file() -> None:
    if not compose_commands():
        pytest.skip("NOT RUN, there is no docker compose here: docker compose config")

    for command in compose_commands():
        done = run_compose(command, ["config", "--quiet"])
        assert done.returncode == 0, done.stderr
