"""docker-compose.yml says what the code says, and lets no container do more than it needs."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.certificates.certificate_authority import SERVERS
from deploy.compose import monitoring, secret_files
from deploy.local.ports import Ports
from deploy.local.processes.health import HEARTBEAT
from deploy.local.processes.programs import PROGRAMS, WITH_DATABASE, Health, Program
from deploy.local.servers import broker, credentials
from deploy.local.templates import render
from monitor.settings import ExporterSettings, FlowerSettings
from order_app.storage import api_keys

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
for _service in SERVICES.values():
    # A file that a variable may name is the usual one here.
    _service["volumes"] = [
        re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume) for volume in _service.get("volumes", [])
    ]
OURS = {name: s for name, s in SERVICES.items() if "ORDERS_IMAGE" in s["image"]}

#: Of our image, but no programs: they do something once, and end.
ONCE = ("certificates", "deploy")

#: A program of a local run, and the service that does its work in containers.
REPLACED = {
    # Jaeger keeps spans and has a page for them, but is in no Debian.
    "spans": "jaeger",
}

#: Where the image has the environments of a local run that are not the first on the `PATH`.
ENVIRONMENTS = {".venv/exporter": "/opt/exporter"}

#: What the programs without a port on their command line read it by.
ONLOOKERS = {"flower": FlowerSettings, "exporter": ExporterSettings}

#: The ports of what a local run does not have.
ONLY_HERE = {"GRAFANA_PORT": 3000, "JAEGER_PORT": 16686}

PROGRAMS_HERE = [program for program in PROGRAMS if program.name not in REPLACED]

every_service = pytest.mark.parametrize("name", SERVICES)
every_program = pytest.mark.parametrize("program", PROGRAMS_HERE, ids=lambda p: p.name)


# --- What runs ----------------------------------------------------------------------------------


def test_the_programs_are_those_of_a_local_run_with_the_same_commands_in_the_same_order() -> None:
    # given
    local = [
        # A container has an address of its own; which of it are published is another matter.
        (
            program.name,
            re.sub(r"127\.0\.0\.1:\$\w+", "0.0.0.0:8000", _in_its_environment(program)).split(),
        )
        for program in PROGRAMS_HERE
    ]

    # then, but for the host's name in that of a worker, of which there may be several here
    here = [(n, _words(s["command"])) for n, s in OURS.items() if n not in ONCE]
    assert [(n, [word.removesuffix("-%h") for word in words]) for n, words in here] == local


def test_a_program_that_has_no_service_is_replaced_by_another() -> None:
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
def test_a_program_gets_its_own_users_secrets_and_no_other(program: Program) -> None:
    # given
    service = OURS[program.name]
    if program.name == "console":
        # Of the services' passwords none, though it sees them all.
        files = ["console.broker", credentials.READER, credentials.CONSOLE]
        assert service["secrets"] == files
        told = {n: v for n, v in service["environment"].items() if n.endswith("_PASSWORD_FILE")}
        assert list(told.values()) == [f"/run/secrets/{file}" for file in files]
        return
    files = [
        *([f"{program.user}.broker"] if program.needs_broker else []),
        *([f"{program.user}.database"] if program.user in WITH_DATABASE else []),
        *([credentials.FLOWER] if program.name == "flower" else []),
    ]

    # when
    told = {n: v for n, v in service["environment"].items() if n.endswith("_PASSWORD_FILE")}

    # then
    assert service["secrets"] == files
    assert sorted(told.values()) == [f"/run/secrets/{file}" for file in files]
    if program.needs_broker:
        assert service["environment"]["BROKER_USER"] == program.user


@every_program
def test_a_program_waits_for_the_deployment(program: Program) -> None:
    assert OURS[program.name]["depends_on"] == {
        "deploy": {"condition": "service_completed_successfully"}
    }


def test_the_deployment_waits_for_healthy_servers_and_they_wait_for_their_certificates() -> None:
    # given
    servers = ("postgres", "rabbitmq")

    # then
    assert OURS["deploy"]["depends_on"] == {s: {"condition": "service_healthy"} for s in servers}
    for server in servers:
        assert SERVICES[server]["depends_on"] == {
            "certificates": {"condition": "service_completed_successfully"}
        }
    assert not OURS["certificates"]["depends_on"]


@every_service
def test_every_name_in_a_service_is_declared(name: str) -> None:
    # given
    service = SERVICES[name]
    volumes = [volume.split(":") for volume in service.get("volumes", [])]
    secrets = [s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])]

    # then
    assert set(service.get("depends_on", {})) <= SERVICES.keys()
    assert set(secrets) <= COMPOSE["secrets"].keys()
    for source, _, *_mode in volumes:
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


# --- TLS ----------------------------------------------------------------------------------------


def _mounts(service: dict[str, Any]) -> set[str]:
    return set(service.get("volumes", []))


def test_a_servers_key_is_seen_by_it_only_and_the_authoritys_by_none() -> None:
    for volume in ("authority", "trust", *(f"{server}-tls" for server in SERVERS)):
        # when
        writers = {n for n, s in SERVICES.items() if _mounts(s) & {f"{volume}:{_place(volume)}"}}
        readers = {n for n, s in SERVICES.items() if f"{volume}:{_place(volume)}:ro" in _mounts(s)}

        # then
        assert writers == {"certificates"}, volume
        if volume == "authority":
            assert not readers
        elif volume != "trust":
            assert readers == {volume.removesuffix("-tls")}


def _place(volume: str) -> str:
    return f"/tls/{volume.removesuffix('-tls')}"


@pytest.mark.parametrize("name", [name for name in OURS if name != "certificates"])
def test_a_client_trusts_the_authority_and_goes_to_a_name_that_is_in_the_certificates(
    name: str,
) -> None:
    # given
    environment = OURS[name]["environment"]
    names = OURS["certificates"]["environment"]["TLS_NAMES"].split(",")

    # then
    assert _mounts(OURS[name]) == {"trust:/tls/trust:ro"}
    for server in ("BROKER", "DATABASE"):
        if f"{server}_HOST" in environment:
            assert environment[f"{server}_HOST"] in names
            assert environment[f"{server}_CA_FILE"] == str(secret_files.CA_FILE)
    if address := environment.get("BROKER_ADMIN_URL"):
        assert re.fullmatch(rf"https://({'|'.join(names)}):15671", address)


def test_every_server_gets_its_certificate_under_the_number_of_its_own_user() -> None:
    # given
    script = OURS["certificates"]["entrypoint"][-1]
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()

    # then
    assert f"for server in {' '.join(SERVERS)};" in script
    assert {SERVICES[s]["user"] for s in (*SERVERS, "certificates")} == {"999:999"}
    owned = re.findall(r"install -d -o 999 -g 999 -m \d+ (.*?)(?: \\)?$", dockerfile, re.MULTILINE)
    assert set(" ".join(owned).split()) == {v.split(":")[1] for v in _mounts(OURS["certificates"])}


def test_the_broker_listens_with_tls_only(tmp_path: Path) -> None:
    # when
    secret_files.write(tmp_path)
    settings = _settings((tmp_path / secret_files.BROKER_CONFIGURATION).read_text())

    # then
    assert settings["listeners.tcp"] == "none"
    assert settings["listeners.ssl.default"] == "0.0.0.0:5671"
    assert not any(name.startswith("management.tcp") for name in settings)
    # Its metrics would be shown without TLS on the same port otherwise, and the node not start.
    assert "{rabbitmq_prometheus, [{tcp_config, []}]}" in broker.ADVANCED.read_text()
    place = f"./{broker.ADVANCED.relative_to(ROOT)}:/etc/rabbitmq/advanced.config:ro"
    assert place in _mounts(SERVICES["rabbitmq"])
    # A mechanism that a plugin brings is a login that fails without it.
    place = f"./{broker.PLUGINS.relative_to(ROOT)}:/etc/rabbitmq/enabled_plugins:ro"
    assert place in _mounts(SERVICES["rabbitmq"])
    assert "rabbitmq_auth_mechanism_ssl" in broker.PLUGINS.read_text()
    mounted = {f"{volume.split(':')[1]}/" for volume in _mounts(SERVICES["rabbitmq"])}
    for file in ("cacertfile", "certfile", "keyfile"):
        assert any(settings[f"ssl_options.{file}"].startswith(place) for place in mounted)


def test_the_database_is_configured_as_in_a_local_run_but_for_where_things_are() -> None:
    # given
    local = _settings(
        render("postgresql.conf.j2", ports=Ports.model_construct(), durable=True, server_file="")
    )
    here = _settings((ROOT / "deploy/compose/postgres/postgresql.conf").read_text())

    # when
    different = {name for name in local.keys() | here if local.get(name) != here.get(name)}

    # then
    assert different == {
        *("listen_addresses", "port", "unix_socket_directories", "hba_file"),
        *("ssl_cert_file", "ssl_key_file"),
    }


def test_the_database_lets_nobody_in_from_elsewhere_without_tls() -> None:
    lines = (ROOT / "deploy/compose/postgres/pg_hba.conf").read_text().splitlines()
    access = [line.split() for line in lines if line and not line.startswith("#")]

    assert {(line[0], line[-1]) for line in access} == {
        ("local", "scram-sha-256"),
        ("hostssl", "scram-sha-256"),
    }


def _settings(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in (x.partition("=") for x in lines)}


# --- Metrics and traces -------------------------------------------------------------------------


def test_what_prometheus_reads_is_what_the_code_makes() -> None:
    assert monitoring.FILE.read_text() == monitoring.configuration(), "run: make secrets"


@every_program
def test_a_program_shows_its_metrics_where_prometheus_asks(program: Program) -> None:
    # given
    environment = OURS[program.name]["environment"]
    asked = re.findall(r'"([a-z-]+):(\d+)"', monitoring.FILE.read_text())

    # then
    assert ((program.name, str(monitoring.PORT)) in asked) == bool(program.metrics_variable)
    if program.health is Health.HEARTBEAT:
        assert environment["METRICS_PORT"] == str(monitoring.PORT)
    if program.health is Health.METRICS:
        assert (program.name, str(_own_port(program))) in asked
    if program.health in (Health.HEARTBEAT, Health.METRICS):
        assert environment["METRICS_HOST"] == "0.0.0.0"


def _own_port(program: Program) -> int:
    # What it listens on unless told; and it is not told.
    assert program.port.upper() not in OURS[program.name]["environment"]
    port: int = ONLOOKERS[program.name].model_fields[program.port].default
    return port


def test_prometheus_shows_its_key_to_the_api_and_to_nobody_else() -> None:
    # given
    configured = yaml.safe_load(monitoring.FILE.read_text())["scrape_configs"]
    with_key = [job for job in configured if "authorization" in job]
    key = f"/run/secrets/{secret_files.PROMETHEUS}"

    # then
    (job,) = with_key
    assert job["authorization"] == {"credentials_file": key}
    (group,) = job["static_configs"]
    assert group["targets"] == [f"api:{monitoring.PORT}"]
    # Alerts and dashboards ask for this job.
    assert group["labels"]["job"] == "orders"
    assert secret_files.PROMETHEUS in SERVICES["prometheus"]["secrets"]


def test_the_deployment_registers_the_key_of_prometheus() -> None:
    script = OURS["deploy"]["command"][-1]
    file = f"/run/secrets/{secret_files.PROMETHEUS}"
    assert f"orderctl keys register prometheus --scope ops --file {file}" in script
    assert script.index("orderctl database apply") < script.index("orderctl keys register")


def test_prometheus_asks_the_broker_over_tls_and_trusts_only_the_authority() -> None:
    # given
    configured = yaml.safe_load(monitoring.FILE.read_text())["scrape_configs"]
    jobs = [job for job in configured if job["job_name"].startswith("rabbitmq")]
    names = OURS["certificates"]["environment"]["TLS_NAMES"].split(",")

    # then
    assert jobs
    for job in jobs:
        assert job["scheme"] == "https"
        assert job["tls_config"]["ca_file"] == str(secret_files.CA_FILE)
        assert job["tls_config"]["server_name"] in names
        assert job["static_configs"] == [{"targets": [f"{names[0]}:15692"]}]
    # Without the file it does not ask at all, so it is there first.
    assert "trust:/tls/trust:ro" in _mounts(SERVICES["prometheus"])
    assert "certificates" in SERVICES["prometheus"]["depends_on"]


def test_the_apis_processes_share_their_counts_in_memory() -> None:
    directory = OURS["api"]["environment"]["PROMETHEUS_MULTIPROC_DIR"]
    assert directory in OURS["api"]["tmpfs"]


@every_program
def test_a_program_sends_its_spans_to_jaeger(program: Program) -> None:
    endpoint = OURS[program.name]["environment"]["OTLP_ENDPOINT"]
    assert endpoint == "${OTLP_ENDPOINT:-http://jaeger:4318}"


def test_grafana_finds_the_dashboards_and_the_prometheus() -> None:
    # given
    provisioning = ROOT / "deploy/compose/grafana"
    (provider,) = yaml.safe_load((provisioning / "dashboards/orders.yml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    grafana = SERVICES["grafana"]

    # then
    dashboards = provider["options"]["path"]
    assert f"./deploy/grafana:{dashboards}:ro" in _mounts(grafana)
    assert "./deploy/compose/grafana:/etc/grafana/provisioning:ro" in _mounts(grafana)
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy/grafana" / home.relative_to(dashboards)).exists()
    assert source["url"] == "http://prometheus:9090"
    assert SERVICES["prometheus"]["ports"][0].endswith(":9090")


# --- Health -------------------------------------------------------------------------------------


@every_service
def test_every_service_has_a_health_check_or_a_reason(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) != bool(SERVICES[name].get("x-no-healthcheck"))


@every_program
def test_a_program_is_healthy_when_it_is_in_a_local_run(program: Program) -> None:
    # given
    service = OURS[program.name]
    test = service.get("healthcheck", {}).get("test", [])

    # then
    match program.health:
        case Health.READY:
            assert "http://127.0.0.1:8000/readyz" in test[-1]
        case Health.HEARTBEAT:
            file = service["environment"]["HEALTH_FILE"]
            assert f"abs(time.time() - os.stat('{file}').st_mtime) > {HEARTBEAT:g})" in test[-1]
        case Health.METRICS:
            assert f"http://127.0.0.1:{_own_port(program)}/metrics" in test[-1]
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


@pytest.mark.parametrize("name", SERVERS)
def test_a_servers_memory_belongs_to_its_user(name: str) -> None:
    # given
    uid, gid = SERVICES[name]["user"].split(":")
    over_the_image = [place for place in SERVICES[name]["tmpfs"] if place != "/tmp"]

    # then
    assert over_the_image
    assert all(place.endswith(f":uid={uid},gid={gid}") for place in over_the_image)


def test_every_published_port_is_on_this_machine_only_and_has_the_default_of_a_local_run() -> None:
    # given
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    local = {n.upper(): port for n, port in Ports.model_construct().model_dump().items()}
    defaults = local | ONLY_HERE

    # then
    for port in published:
        parts = re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z_]+):-(\d+)\}:\d+", port)
        assert parts, port
        assert defaults[parts[1]] == int(parts[2])


def test_flowers_page_is_published_and_the_exporter_which_has_none_is_not() -> None:
    assert SERVICES["flower"]["ports"] == ["127.0.0.1:${FLOWER_PORT:-5555}:5555"]
    assert "ports" not in SERVICES["exporter"]


@every_service
def test_every_image_is_a_variable_with_a_default(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:[a-z0-9.-]+\}", image)
    assert not image.endswith(":latest}")


def test_the_tests_on_containers_run_on_the_images_of_the_compose_file() -> None:
    source = (ROOT / "testkit/servers/containers.py").read_text()
    for name in ("rabbitmq", "postgres"):
        variable, default = re.findall(r"\{([A-Z_]+):-(.+)\}", SERVICES[name]["image"])[0]
        assert f'os.environ.get("{variable}", "{default}")' in source
        assert f'"${{{variable}:-{default}}}"' in (ROOT / ".ci/containers").read_text()


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


def test_the_deployment_has_every_secret_that_it_makes_known() -> None:
    # Flower and the console alone ask for their own.
    asked = {credentials.FLOWER, credentials.CONSOLE}
    known = {*credentials.names(), secret_files.PROMETHEUS} - asked
    assert sorted(OURS["deploy"]["secrets"]) == sorted(known)


@every_service
def test_no_environment_variable_is_a_secret(name: str) -> None:
    for variable in SERVICES[name].get("environment", {}):
        assert not re.search(r"(PASSWORD|PASS|SECRET|TOKEN|KEY)$", variable)


def test_only_the_owner_of_the_directory_reaches_the_secrets(tmp_path: Path) -> None:
    # when
    secret_files.write(tmp_path / "secrets")
    password = credentials.read(tmp_path / "secrets", credentials.DEPLOYER)
    key = credentials.read(tmp_path / "secrets", secret_files.PROMETHEUS)
    secret_files.write(tmp_path / "secrets")

    # then every file is there, and a second run changed no password and no key
    assert credentials.read(tmp_path / "secrets", secret_files.PROMETHEUS) == key
    assert api_keys.prefix_of(key)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in (tmp_path / "secrets").iterdir()) == sorted(secret_files.names())
    configuration = (tmp_path / "secrets" / secret_files.BROKER_CONFIGURATION).read_text()
    assert f"default_pass = {password}\n" in configuration


# --- The image ----------------------------------------------------------------------------------


def test_the_image_gets_the_packages_that_the_programs_consist_of() -> None:
    # given
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    # import-linter proves that no program imports any of these.
    packages = set(setup["importlinter"]["root_packages"].split()) - {
        "contracts",
        "deploy",
        "bench",
        "testkit",
        "tests",
    }

    # then
    workers = {package for package in packages if package.endswith("_worker")}
    assert {line[1:] for line in _dockerignore() if line.startswith("!")} == {
        *(packages - workers),
        "*_worker",
        "requirements/run.txt",
        "requirements/exporter.txt",
    }


def test_every_environment_of_the_image_is_of_pinned_packages() -> None:
    # given
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()

    # then
    for place, pins in (("/opt/orders", "run"), *((e, "exporter") for e in ENVIRONMENTS.values())):
        assert f"environment {place} /requirements/{pins}.txt" in dockerfile
        assert f"COPY --from=build {place} {place}" in dockerfile
    assert "--require-hashes" in dockerfile


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
        assert _run([*command, "config", "--quiet"]) is None


def _run(command: list[str]) -> str | None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr or str(done.returncode)
