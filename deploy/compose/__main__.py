"""The command behind `make secrets`."""

import click

from deploy.compose import secrets


@click.command()
def main() -> None:
    """Write every secret that docker-compose.yml reads and that does not exist yet."""
    secrets.write(secrets.DIRECTORY)
    click.echo(f"The secrets are in {secrets.DIRECTORY}.")


if __name__ == "__main__":
    main()
