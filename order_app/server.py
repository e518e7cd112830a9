"""PROCESS: the orders API, `python -m order_app.server`: an app in each of several processes."""

import ctypes
import gc
import os
import signal
from functools import partial
from importlib import import_module

import click
from flask import Flask
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server import Server

import order_app.app  # noqa: F401, loaded before the fork: the processes share its modules
from common.addresses import addresses
from common.settings import load
from common.telemetry import configure_logging
from order_app.settings import ApiSettings

#: Threads beyond those whose requests may be under way: for probes, and to refuse the others.
_SPARE = 2

#: Open connections of a process; who opens a further one waits until another is closed.
_CONNECTIONS = 1_000

#: Seconds for which a process that is told to end goes on with what is under way.
_GRACE = 25

#: Of Linux's <sys/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


@click.command()
@click.option("--bind", required=True, metavar="ADDRESS:PORT")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1))
@click.argument("module", default="order_app.app")
def main(bind: str, processes: int, module: str) -> None:
    """Serve what a module's `create_app` returns until a signal ends it."""
    address, port = _address(bind)
    settings = load(ApiSettings)
    server = Server(
        module,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        address=address,
        port=port,
        workers=processes,
        # For each request: what waits, waits in the app, which counts it. One is made when needed.
        blocking_threads=settings.api_queue_limit + _SPARE,
        backpressure=_CONNECTIONS,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_GRACE,
        # Into our own lines. It would warn of the number of threads, which is meant.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
    )
    configure_logging(settings.log_level)
    # What is loaded stays out of the collector's reach, whose marks would copy its pages.
    server.on_startup(gc.freeze)
    server.serve(target_loader=partial(_app, os.getpid()), wrap_loader=True)


def _address(bind: str) -> tuple[str, int]:
    try:
        ((address, port),) = addresses(bind, 0)
    except ValueError:
        problem = f"{bind}: must be HOST:PORT or [IPV6]:PORT"
        raise click.BadParameter(problem, param_hint="--bind") from None
    return address, port


def _app(parent: int, module: str) -> Flask:
    """Return the app of this process, which ends with its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the server has ended")
    app: Flask = import_module(module).create_app()
    return app


if __name__ == "__main__":
    main()
