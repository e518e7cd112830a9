"""The server process of the orders API, `python -m order_app.server`, with one app per child."""

import click

import order_app.app  # noqa: F401, loaded before the fork, so the processes share its modules
from common.http import server
from eventbus.settings.base import load
from eventbus.telemetry.logs import configure_logging
from order_app.http import load_shedding
from order_app.settings import ApiSettings


@click.command()
@click.option("--bind", required=True, metavar="ADDRESS:PORT")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1))
@click.argument("module", default="order_app.app")
def main(bind: str, processes: int, module: str) -> None:
    """Serve the app that MODULE's `create_app` returns, until a signal."""
    settings = load(ApiSettings)
    configure_logging(settings.log_level)
    server.serve(
        module,
        bind=bind,
        processes=processes,
        threads=load_shedding.threads(settings),
        idle=settings.api_idle_timeout,
    )


if __name__ == "__main__":
    main()
