"""The command behind `make secrets`."""

import click

from deploy.compose import monitoring, secret_files


@click.command()
def main() -> None:
    """Write every missing secret that docker-compose.yml reads.

    Also write Prometheus's configuration, which is committed.
    """
    monitoring.FILE.write_text(monitoring.configuration())
    secret_files.write(secret_files.DIRECTORY)
    click.echo(f"The secrets are in {secret_files.DIRECTORY}.")


if __name__ == "__main__":
    main()
