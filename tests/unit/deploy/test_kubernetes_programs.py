"""The manifests run the programs of the compose file, with the same settings and secrets."""

import re
from collections.abc import Callable

import pytest
import yaml
from celery.utils.nodenames import host_format

from console.settings import ConsoleSettings
from deploy.compose import secret_files
from deploy.k8s import programs, release
from deploy.k8s.environment import BROKER, DATABASE
from deploy.local import REPOSITORY
from deploy.local.processes.programs import Health, Program
from eventbus.settings.broker import BrokerSettings
from eventbus.settings.service import ServiceSettings
from monitor.settings import ExporterSettings, FlowerSettings
from notification_worker.settings import MailerSettings
from order_app.settings import ApiSettings
from tests.support.manifests import (
    FOLDERS,
    Manifest,
    built,
    every_folder,
    path_of,
    pods,
    settings_of,
)
from tests.support.operator_settings import OperatorSettings

every_program = pytest.mark.parametrize("program", programs.HERE, ids=lambda p: p.name)


COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]

#: The settings of each program by its name. All others read `ServiceSettings`.
SETTINGS = {
    "api": ApiSettings,
    "notification-mailer": MailerSettings,
    "flower": FlowerSettings,
    "exporter": ExporterSettings,
    "console": ConsoleSettings,
    "beat": BrokerSettings,
    "deploy": OperatorSettings,
}


def test_the_committed_manifests_match_the_code() -> None:
    for file, text in (
        (programs.FILE, programs.manifests()),
        (release.FILE, release.manifest()),
    ):
        assert file.read_text() == text, f"{file.name}; run: .venv/bin/python -m deploy.k8s"


def test_every_file_is_listed_in_its_kustomization() -> None:
    for folder in FOLDERS:
        kustomization = yaml.safe_load((path_of(folder) / "kustomization.yaml").read_text())
        named = {
            *kustomization["resources"],
            *(p["path"] for p in kustomization.get("patches", []) if "path" in p),
            "kustomization.yaml",
        }
        assert {path.name for path in path_of(folder).iterdir()} == named - {"../base"}


@every_program
def test_a_program_has_the_command_of_its_container(program: Program) -> None:
    command = COMPOSE[program.name]["command"]
    words = command.split() if isinstance(command, str) else command

    command_here = [word.replace("$(HTTP_BIND)", "0.0.0.0") for word in programs.command(program)]
    assert command_here == words


@every_folder
def test_every_variable_is_a_setting_of_its_program(folder: str) -> None:
    # Given the config maps of the folder
    maps = _settings_maps(folder)

    for owner, template in pods(built(folder)):
        # When the variables of a container are set
        (container,) = template["spec"]["containers"]
        variables = {
            *settings_of(container),
            *(n for ref in container["envFrom"] for n in maps(ref)),
        }
        known = SETTINGS.get(owner["metadata"]["name"], ServiceSettings).model_fields
        # The map of every program includes settings of metrics and of a command.
        names = {name.upper() for name in known} | {"PROMETHEUS_MULTIPROC_DIR"}
        names |= {"METRICS_HOST", "HTTP_BIND"}

        # Then each of them is a setting of its program
        assert {
            name.removesuffix("_FILE") if name not in names else name for name in variables
        } <= names


def _settings_maps(folder: str) -> Callable[[Manifest], dict[str, str]]:
    maps = {m["metadata"]["name"]: m["data"] for m in built(folder) if m["kind"] == "ConfigMap"}
    return lambda reference: maps[reference["configMapRef"]["name"]]


@every_program
def test_a_program_has_the_secrets_of_its_container(program: Program) -> None:
    assert sorted(_secrets_of(program.name)) == sorted(COMPOSE[program.name]["secrets"])


def test_the_deployment_equals_that_of_the_compose_file() -> None:
    # Given the container of the job
    (job,) = (manifest for manifest in built("base") if manifest["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]

    # Then it equals that of the compose file
    assert container["command"] == COMPOSE["deploy"]["command"]
    assert sorted(_secrets_of("deploy")) == sorted(COMPOSE["deploy"]["secrets"])
    assert settings_of(container).keys() == COMPOSE["deploy"]["environment"].keys()


def _secrets_of(name: str) -> list[str]:
    """Return the files in the secrets directory of a pod."""
    (pod,) = (t["spec"] for m, t in pods(built("base")) if m["metadata"]["name"] == name)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    files = []
    for source in volumes["secrets"]["projected"]["sources"]:
        secret = source["secret"]
        files += [i["path"] for i in secret["items"]] if "items" in secret else [secret["name"]]
    return files


@every_folder
def test_manifests_refer_to_known_secrets_and_contain_none(
    folder: str,
) -> None:
    # Given the secrets of this project and of the operators
    secrets = set(secret_files.names())
    operators = {"authority", "rabbitmq-default-user", "rabbitmq-tls"}
    operators |= {"postgres-superuser", "postgres-tls"}

    # When the manifests are searched for references
    text = yaml.safe_dump_all(built(folder))
    named = set(re.findall(r"secret:\s+(?:items:(?:\s+- .*|\s+path: .*)+\s+)?name: (\S+)", text))
    named |= set(re.findall(r"(?:secretName|caSecretName|serverCASecret|TLSSecret): (\S+)", text))

    # Then no manifest is or contains a secret, and every reference is known
    assert "Secret" not in {manifest["kind"] for manifest in built(folder)}
    assert not re.search(r"(?i)password: \S", text)
    assert named <= secrets | operators
    assert "order.broker" in named


def test_servers_have_the_names_that_operators_give_them() -> None:
    # Given the names of the servers' resources
    named = {m["kind"]: m["metadata"]["name"] for m in built("base")}

    # Then programs connect to the services that the operators create for them
    assert named["RabbitmqCluster"] == BROKER
    assert f"{named['Cluster']}-rw" == DATABASE


heartbeats = [p for p in programs.HERE if p.health is Health.HEARTBEAT]


@pytest.mark.parametrize("program", heartbeats, ids=lambda p: p.name)
def test_two_pods_of_a_program_have_different_celery_names(program: Program) -> None:
    words = programs.command(program)
    name = words[words.index("-n") + 1]

    assert host_format(name, host="pod-1") != host_format(name, host="pod-2")
