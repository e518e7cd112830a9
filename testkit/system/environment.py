"""The environment variables of a program, as `make up` sets them, for an installation."""

import os

from deploy.local.processes.programs import API_ENVIRONMENT, Program
from deploy.local.servers import credentials
from testkit.system.installation import RETRY_TIERS, Installation


def environment(installation: Installation, program: Program, name: str) -> dict[str, str]:
    """Return the environment of a program that is started as `name`."""
    return {
        "PATH": os.environ["PATH"],
        "HEALTH_FILE": str(installation.directory / "health" / name),
        "RETRY_TIERS": ",".join(str(seconds) for seconds in RETRY_TIERS),
        **_broker(installation, program, name),
        **_mail(installation),
        **_monitoring(installation),
        **_console(installation),
        **(API_ENVIRONMENT if program.name == "api" else {}),
        **_database(installation, program),
        **_metrics_port(installation, name),
        **(installation.clocks[name].environment if name in installation.clocks else {}),
        **installation.extra,
    }


def _broker(installation: Installation, program: Program, name: str) -> dict[str, str]:
    port = installation.broker_ports.get(name, installation.vhost.amqp_port)
    return {
        "BROKER_PORT": str(port),
        "BROKER_CA_FILE": str(installation.vhost.ca_file),
        "BROKER_VHOST": installation.vhost.name,
        "BROKER_USER": program.user,
        "BROKER_PASSWORD_FILE": str(installation.servers.secrets_dir / f"{program.user}.broker"),
        "BROKER_ADMIN_URL": installation.vhost.management_url,
    }


def _database(installation: Installation, program: Program) -> dict[str, str]:
    database = installation.databases.get(program.user)
    if database is None:
        return {}
    return {name.upper(): str(value) for name, value in database.settings.items()}


def _mail(installation: Installation) -> dict[str, str]:
    return {
        "SMTP_HOST": installation.mailbox.host,
        "SMTP_PORT": str(installation.mailbox.port),
        "MAIL_FROM": "Shop <orders@shop.example>",
    }


def _monitoring(installation: Installation) -> dict[str, str]:
    return {
        "FLOWER_PASSWORD_FILE": str(installation.servers.secrets_dir / credentials.FLOWER),
        "FLOWER_PORT": str(installation.ports.flower_port),
        "EXPORTER_PORT": str(installation.ports.exporter_port),
    }


def _metrics_port(installation: Installation, name: str) -> dict[str, str]:
    port = installation.metrics_ports.get(name)
    return {} if port is None else {"METRICS_PORT": str(port)}


def _console(installation: Installation) -> dict[str, str]:
    secrets = installation.servers.secrets_dir
    return {
        "BROKER_ADMIN_USER": "console",
        "BROKER_ADMIN_PASSWORD_FILE": str(secrets / "console.broker"),
        "CONSOLE_PASSWORD_FILE": str(secrets / credentials.CONSOLE),
        "CONSOLE_DATABASE_PASSWORD_FILE": str(secrets / credentials.READER),
        "DATABASE_PORT": str(installation.servers.postgres_port),
        "DATABASE_CA_FILE": str(installation.servers.ca_file),
    }
