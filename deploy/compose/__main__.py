"""The command behind `make secrets`."""

import click

from deploy.compose import monitoring, parts, secret_files
from deploy.local import ENV_FILE
from deploy.local.processes.parts import configured_division


@click.command()
def main() -> None:
    """Write every missing secret that docker-compose.yml reads.

    Also write Prometheus's configuration, which is committed, and the override for `PARTS` and
    `RELAYS`, from the environment or `.env`.
    """
    parts.write(parts.DIRECTORY, configured_division(ENV_FILE))
    monitoring.FILE.write_text(monitoring.configuration())
    secret_files.write(secret_files.DIRECTORY)
    click.echo(f"The secrets are in {secret_files.DIRECTORY}.")


if __name__ == "__main__":
    main()
