"""Prometheus scrapes every program, Jaeger receives its spans, and Grafana has the dashboards."""

import re
from pathlib import Path

import yaml

from deploy.compose import monitoring, secret_files
from deploy.local import REPOSITORY
from deploy.local.processes.programs import Health, Program
from tests.support.compose import OURS, SERVICES, every_program, mounts, own_port


def test_the_committed_prometheus_configuration_matches_the_code() -> None:
    assert monitoring.FILE.read_text() == monitoring.configuration(), "run: make secrets"


@every_program
def test_the_metrics_of_a_program_are_scraped_at_its_port(program: Program) -> None:
    # Given the targets that are scraped
    environment = OURS[program.name]["environment"]
    targets = re.findall(r'"([a-z-]+):(\d+)"', monitoring.FILE.read_text())

    # Then the program is one of them if it has metrics
    assert ((program.name, str(monitoring.PORT)) in targets) == bool(program.metrics_variable)
    if program.health is Health.HEARTBEAT:
        assert environment["METRICS_PORT"] == str(monitoring.PORT)
    if program.health is Health.METRICS:
        assert (program.name, str(own_port(program))) in targets
    if program.health in (Health.HEARTBEAT, Health.METRICS):
        assert environment["METRICS_HOST"] == "0.0.0.0"


def test_prometheus_sends_its_key_to_the_api_only() -> None:
    # Given the jobs with credentials
    configured = yaml.safe_load(monitoring.FILE.read_text())["scrape_configs"]
    with_key = [job for job in configured if "authorization" in job]
    key = f"/run/secrets/{secret_files.PROMETHEUS}"

    # Then only the API is scraped with the key
    (job,) = with_key
    assert job["authorization"] == {"credentials_file": key}
    (group,) = job["static_configs"]
    assert group["targets"] == [f"api:{monitoring.PORT}"]
    # Alerts and dashboards select this job.
    assert group["labels"]["job"] == "orders"
    assert secret_files.PROMETHEUS in SERVICES["prometheus"]["secrets"]


def test_the_deployment_registers_the_key_of_prometheus() -> None:
    script = OURS["deploy"]["command"][-1]
    file = f"/run/secrets/{secret_files.PROMETHEUS}"
    assert f"orderctl keys register prometheus --scope ops --file {file}" in script
    assert script.index("orderctl database apply") < script.index("orderctl keys register")


def test_prometheus_scrapes_the_broker_over_verified_tls() -> None:
    # Given the jobs that scrape the broker
    configured = yaml.safe_load(monitoring.FILE.read_text())["scrape_configs"]
    jobs = [job for job in configured if job["job_name"].startswith("rabbitmq")]
    names = OURS["certificates"]["environment"]["TLS_NAMES"].split(",")

    # Then each verifies the certificate by the authority
    assert jobs
    for job in jobs:
        assert job["scheme"] == "https"
        assert job["tls_config"]["ca_file"] == str(secret_files.CA_FILE)
        assert job["tls_config"]["server_name"] in names
        assert job["static_configs"] == [{"targets": [f"{names[0]}:15692"]}]
    # Prometheus does not scrape without the file, so the file must exist first.
    assert "trust:/tls/trust:ro" in mounts(SERVICES["prometheus"])
    assert "certificates" in SERVICES["prometheus"]["depends_on"]


def test_the_processes_of_the_api_share_metrics_in_memory() -> None:
    directory = OURS["api"]["environment"]["PROMETHEUS_MULTIPROC_DIR"]
    assert directory in OURS["api"]["tmpfs"]


@every_program
def test_a_program_sends_its_spans_to_jaeger(program: Program) -> None:
    endpoint = OURS[program.name]["environment"]["OTLP_ENDPOINT"]
    assert endpoint == "${OTLP_ENDPOINT:-http://jaeger:4318}"


def test_grafana_is_provisioned_with_dashboards_and_prometheus() -> None:
    # Given Grafana's provisioning
    provisioning = REPOSITORY / "deploy/compose/grafana"
    (provider,) = yaml.safe_load((provisioning / "dashboards/orders.yml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    grafana = SERVICES["grafana"]

    # Then its paths and its address exist
    dashboards = provider["options"]["path"]
    assert f"./deploy/grafana:{dashboards}:ro" in mounts(grafana)
    assert "./deploy/compose/grafana:/etc/grafana/provisioning:ro" in mounts(grafana)
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (REPOSITORY / "deploy/grafana" / home.relative_to(dashboards)).exists()
    assert source["url"] == "http://prometheus:9090"
    assert SERVICES["prometheus"]["ports"][0].endswith(":9090")
